mock_provider "aws" {
  source = "../../tests"
}

variables {
  name                     = "hearloop-test"
  vpc_id                   = "vpc-1"
  subnet_ids               = ["subnet-1", "subnet-2"]
  client_security_group_id = "sg-1"
  node_type                = "cache.m7g.large"
  nodes                    = 2
  password                 = "sixteen-characters-or-more"
  key_arn                  = "arn:aws:kms:eu-central-1:123456789012:key/platform"
}

run "encrypted_and_authenticated" {
  assert {
    condition     = tobool(aws_elasticache_replication_group.this.at_rest_encryption_enabled) && aws_elasticache_replication_group.this.kms_key_id == var.key_arn
    error_message = "The cache is encrypted with our key."
  }

  assert {
    condition     = aws_elasticache_replication_group.this.transit_encryption_enabled && aws_elasticache_replication_group.this.transit_encryption_mode == "required"
    error_message = "Clients that do not speak TLS are refused."
  }

  assert {
    condition     = aws_elasticache_replication_group.this.auth_token == var.password
    error_message = "Whoever has no password is refused."
  }

  assert {
    condition     = aws_elasticache_subnet_group.this.subnet_ids == toset(var.subnet_ids)
    error_message = "The cache lies in subnets without a way out."
  }

  assert {
    condition     = one(aws_security_group.this.ingress).security_groups == toset(["sg-1"])
    error_message = "The cluster comes in, and nobody else."
  }
}

run "two_nodes_fail_over" {
  assert {
    condition     = aws_elasticache_replication_group.this.automatic_failover_enabled && aws_elasticache_replication_group.this.multi_az_enabled
    error_message = "The second node takes over, from another zone."
  }
}

run "one_node_does_without" {
  variables {
    nodes = 1
  }

  assert {
    condition     = !aws_elasticache_replication_group.this.automatic_failover_enabled
    error_message = "There is nothing to fail over to."
  }
}

run "a_short_password_is_refused" {
  command = plan

  variables {
    password = "short"
  }

  expect_failures = [var.password]
}
