mock_provider "aws" {
  source = "../../tests"
}

variables {
  name         = "hearloop-test"
  global_name  = "hearloop-test"
  cidr         = "10.20.0.0/16"
  zones        = 3
  nat_per_zone = true
  key_arn      = "arn:aws:kms:eu-central-1:123456789012:key/platform"
}

run "data_has_no_way_out" {
  assert {
    condition     = length(aws_route_table.data.route) == 0
    error_message = "Database, brokers and cache have no route to the internet."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.public : !subnet.map_public_ip_on_launch])
    error_message = "Nothing gets a public address by accident."
  }

  assert {
    condition     = length(aws_default_security_group.closed.ingress) == 0 && length(aws_default_security_group.closed.egress) == 0
    error_message = "The default group lets nothing through."
  }
}

run "subnets_do_not_overlap" {
  assert {
    condition     = length(distinct(concat(values(aws_subnet.public)[*].cidr_block, values(aws_subnet.nodes)[*].cidr_block, values(aws_subnet.data)[*].cidr_block))) == 9
    error_message = "Three subnets in each of three zones."
  }

  assert {
    condition     = aws_subnet.nodes["eu-central-1a"].cidr_block == "10.20.32.0/19" && aws_subnet.public["eu-central-1c"].cidr_block == "10.20.2.0/24" && aws_subnet.data["eu-central-1c"].cidr_block == "10.20.18.0/24"
    error_message = "Public and data subnets lie in the first /19, nodes in those after it."
  }
}

run "a_zone_may_be_lost" {
  assert {
    condition     = length(aws_nat_gateway.this) == 3
    error_message = "Each zone goes out by itself."
  }
}

run "one_nat_gateway_will_do" {
  variables {
    nat_per_zone = false
    zones        = 2
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_route_table.nodes) == 2
    error_message = "Both zones go out through one gateway."
  }
}

run "flows_are_logged_encrypted" {
  assert {
    condition     = aws_flow_log.this.traffic_type == "ALL" && aws_cloudwatch_log_group.flows.kms_key_id == var.key_arn && aws_cloudwatch_log_group.flows.retention_in_days >= 365
    error_message = "All flows are kept for a year, encrypted."
  }
}

run "a_network_that_is_no_16_is_refused" {
  command = plan

  variables {
    cidr = "10.20.0.0/24"
  }

  expect_failures = [var.cidr]
}

run "one_zone_is_refused" {
  command = plan

  variables {
    zones = 1
  }

  expect_failures = [var.zones]
}
