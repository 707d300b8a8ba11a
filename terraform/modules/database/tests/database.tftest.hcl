mock_provider "aws" {
  source = "../../tests"
}

variables {
  name                     = "hearloop-test"
  global_name              = "hearloop-test"
  vpc_id                   = "vpc-1"
  subnet_ids               = ["subnet-1", "subnet-2"]
  client_security_group_id = "sg-1"
  instance_class           = "db.m7g.large"
  multi_az                 = true
  backup_days              = 35
  username                 = "hearloop"
  password                 = "written-and-forgotten"
  password_generation      = 1
  key_arn                  = "arn:aws:kms:eu-central-1:123456789012:key/platform"
  disposable               = false
}

run "closed_and_encrypted" {
  assert {
    condition     = aws_db_instance.this.storage_encrypted && aws_db_instance.this.kms_key_id == var.key_arn && !aws_db_instance.this.publicly_accessible
    error_message = "The database is encrypted with our key and reached from the VPC alone."
  }

  assert {
    condition     = aws_db_instance.this.performance_insights_enabled && aws_db_instance.this.performance_insights_kms_key_id == var.key_arn
    error_message = "Insights, which show statements, are encrypted too."
  }

  assert {
    condition     = one([for parameter in aws_db_parameter_group.this.parameter : parameter.value if parameter.name == "rds.force_ssl"]) == "1"
    error_message = "Clients that do not speak TLS are refused."
  }

  assert {
    condition     = one(aws_security_group.this.ingress).security_groups == toset(["sg-1"]) && one(aws_security_group.this.ingress).from_port == 5432
    error_message = "The cluster comes in, and nobody else."
  }

  assert {
    condition     = alltrue([for group in aws_cloudwatch_log_group.this : group.kms_key_id == var.key_arn])
    error_message = "Logs are encrypted."
  }
}

run "survives_mistakes" {
  assert {
    condition     = aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.backup_retention_period == 35
    error_message = "It cannot be destroyed by accident, and can be wound back."
  }
}

run "a_replica_follows" {
  variables {
    replicate_from = "arn:aws:rds:eu-central-1:123456789012:db:hearloop-test"
  }

  assert {
    condition     = aws_db_instance.this.replicate_source_db == var.replicate_from && aws_db_instance.this.password_wo_version == null && aws_db_instance.this.storage_encrypted
    error_message = "A replica follows the primary, has its password, and is encrypted in its own region."
  }

  assert {
    condition     = aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.backup_retention_period == 35
    error_message = "RDS takes no last snapshot of a replica; backups it has, for the day that it is promoted."
  }
}

run "no_backups_is_refused" {
  command = plan

  variables {
    backup_days = 0
  }

  expect_failures = [var.backup_days]
}
