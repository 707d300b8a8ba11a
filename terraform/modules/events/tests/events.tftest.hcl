mock_provider "aws" {
  source = "../../tests"
}

variables {
  name                     = "hearloop-test"
  vpc_id                   = "vpc-1"
  subnet_ids               = ["subnet-1", "subnet-2", "subnet-3"]
  client_security_group_id = "sg-1"
  brokers                  = 3
  instance_type            = "kafka.m7g.large"
  credentials_secret_arn   = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:AmazonMSK_hearloop-test"
  key_arn                  = "arn:aws:kms:eu-central-1:123456789012:key/platform"
}

run "encrypted_and_authenticated" {
  assert {
    condition     = aws_msk_cluster.this.encryption_info[0].encryption_in_transit[0].client_broker == "TLS" && aws_msk_cluster.this.encryption_info[0].encryption_in_transit[0].in_cluster
    error_message = "Nothing travels in the clear."
  }

  assert {
    condition     = aws_msk_cluster.this.encryption_info[0].encryption_at_rest_kms_key_arn == var.key_arn
    error_message = "The log is encrypted with our key."
  }

  assert {
    condition     = !aws_msk_cluster.this.client_authentication[0].unauthenticated && aws_msk_cluster.this.client_authentication[0].sasl[0].scram
    error_message = "Whoever has no password is refused."
  }

  assert {
    condition     = aws_msk_cluster.this.broker_node_group_info[0].connectivity_info[0].public_access[0].type == "DISABLED"
    error_message = "Brokers have no public address."
  }

  assert {
    condition     = aws_msk_scram_secret_association.this.secret_arn_list == toset([var.credentials_secret_arn])
    error_message = "The password is the one in Secrets Manager."
  }

  assert {
    condition     = alltrue([for rule in aws_security_group.this.ingress : rule.security_groups == toset(["sg-1"]) && rule.cidr_blocks == null])
    error_message = "The cluster comes in, and nobody else."
  }
}

run "what_is_acknowledged_is_kept" {
  assert {
    condition = alltrue([
      for line in ["min.insync.replicas=2", "default.replication.factor=3", "unclean.leader.election.enable=false", "auto.create.topics.enable=false"] :
      strcontains(aws_msk_configuration.this.server_properties, line)
    ])
    error_message = "A write counts when two brokers have it; topics are made on purpose."
  }

  assert {
    condition     = aws_appautoscaling_target.storage.max_capacity == 500 && aws_appautoscaling_policy.storage.target_tracking_scaling_policy_configuration[0].disable_scale_in
    error_message = "Storage grows before it is full."
  }

  assert {
    condition     = output.security_protocol == "SASL_SSL" && output.sasl_mechanism == "SCRAM-SHA-512"
    error_message = "Clients are told what the brokers take."
  }
}

run "a_lopsided_cluster_is_refused" {
  command = plan

  variables {
    brokers = 4
  }

  expect_failures = [var.brokers]
}

run "a_log_of_a_day_is_refused" {
  command = plan

  variables {
    retention_days = 1
  }

  expect_failures = [var.retention_days]
}
