mock_provider "aws" {
  source = "../../tests"
}

mock_provider "aws" {
  alias  = "us_east_1"
  source = "../../tests"
}

variables {
  name           = "hearloop-test"
  domain         = "speech.example.com"
  primary_region = "eu-central-1"

  regions = {
    eu-central-1 = { hostname = "a.elb.eu-central-1.amazonaws.com", zone_id = "Z1" }
    eu-west-1    = { hostname = "b.elb.eu-west-1.amazonaws.com", zone_id = "Z2" }
  }
}

run "the_nearest_healthy_region_recognises" {
  assert {
    condition = alltrue([
      for record in aws_route53_record.nearest :
      record.latency_routing_policy[0].region == record.set_identifier && record.health_check_id == aws_route53_health_check.region[record.set_identifier].id && record.alias[0].evaluate_target_health
    ])
    error_message = "A region that fails its check gets no callers."
  }

  assert {
    condition = toset(keys(aws_route53_record.nearest)) == toset([
      "api.speech.example.com/eu-central-1", "api.speech.example.com/eu-west-1",
      "partners.speech.example.com/eu-central-1", "partners.speech.example.com/eu-west-1",
    ])
    error_message = "People and partners find every region."
  }

  assert {
    condition     = aws_route53_query_log.this.zone_id == aws_route53_zone.this.zone_id && aws_cloudwatch_log_group.queries.retention_in_days == 365
    error_message = "Who asked is kept for a year."
  }

  assert {
    condition     = alltrue([for check in aws_route53_health_check.region : check.type == "HTTPS" && check.resource_path == "/v2/health/ready" && check.request_interval * check.failure_threshold <= 30])
    error_message = "A region is out after half a minute."
  }
}

run "corrections_fail_over" {
  assert {
    condition     = aws_route53_record.corrections["eu-central-1"].failover_routing_policy[0].type == "PRIMARY" && aws_route53_record.corrections["eu-west-1"].failover_routing_policy[0].type == "SECONDARY"
    error_message = "Corrections go where the database is written, then to the standby."
  }
}

run "a_primary_that_is_nowhere_is_refused" {
  command = plan

  variables {
    primary_region = "us-east-1"
  }

  expect_failures = [var.primary_region]
}

run "a_domain_with_a_dot_at_its_end_is_refused" {
  command = plan

  variables {
    domain = "speech.example.com."
  }

  expect_failures = [var.domain]
}
