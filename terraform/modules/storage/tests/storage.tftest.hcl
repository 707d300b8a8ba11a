mock_provider "aws" {
  source = "../../tests"
}

variables {
  global_name = "hearloop-test"
  key_arn     = "arn:aws:kms:eu-central-1:123456789012:key/speech"
  disposable  = false
}

run "no_bucket_is_public" {
  assert {
    condition = length(aws_s3_bucket_public_access_block.this) == 4 && alltrue([
      for block in concat(values(aws_s3_bucket_public_access_block.this), [aws_s3_bucket_public_access_block.logs]) :
      block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets
    ])
    error_message = "Each of the five buckets has all four public doors closed."
  }

  assert {
    condition     = alltrue([for controls in concat(values(aws_s3_bucket_ownership_controls.this), [aws_s3_bucket_ownership_controls.logs]) : controls.rule[0].object_ownership == "BucketOwnerEnforced"])
    error_message = "No bucket listens to ACLs."
  }

  assert {
    condition = alltrue(flatten([
      for policy in concat(values(aws_s3_bucket_policy.this)[*].policy, [aws_s3_bucket_policy.logs.policy]) : [
        for statement in jsondecode(policy).Statement :
        statement.Effect == "Deny" || can(statement.Principal.Service)
      ]
    ]))
    error_message = "A bucket's policy lets in nobody but services of AWS; people and pods come by IAM."
  }
}

run "everything_is_encrypted_on_disk_and_on_the_way" {
  assert {
    condition = length(aws_s3_bucket_server_side_encryption_configuration.this) == 4 && alltrue([
      for configuration in aws_s3_bucket_server_side_encryption_configuration.this :
      one(one(configuration.rule).apply_server_side_encryption_by_default).kms_master_key_id == var.key_arn
    ])
    error_message = "Each bucket with speech is encrypted with the key for speech."
  }

  assert {
    condition = alltrue([
      for policy in concat(values(aws_s3_bucket_policy.this)[*].policy, [aws_s3_bucket_policy.logs.policy]) :
      length(setintersection(["OnlyOverTls", "OnlyFromTls12"], jsondecode(policy).Statement[*].Sid)) == 2
    ])
    error_message = "Each bucket refuses plain HTTP and old TLS."
  }
}

run "what_is_deleted_can_be_brought_back_and_is_gone_in_the_end" {
  assert {
    condition     = alltrue([for versioning in concat(values(aws_s3_bucket_versioning.this), [aws_s3_bucket_versioning.logs]) : versioning.versioning_configuration[0].status == "Enabled"])
    error_message = "Each bucket keeps versions."
  }

  assert {
    condition = alltrue([
      for holds, lifecycle in aws_s3_bucket_lifecycle_configuration.this :
      one([for rule in lifecycle.rule : rule.noncurrent_version_expiration[0].noncurrent_days if rule.id == "old-versions"]) == var.old_version_days[holds]
    ])
    error_message = "Old versions, an erased person's audio among them, expire in time."
  }

  assert {
    condition     = alltrue([for bucket in aws_s3_bucket.this : !bucket.force_destroy])
    error_message = "A bucket that holds anything cannot be destroyed."
  }

  assert {
    condition     = length(aws_s3_bucket_logging.this) == 4 && length(aws_s3_bucket_metric.this) == 4
    error_message = "Each bucket logs who reads it and counts requests, for the alarms."
  }
}

run "nothing_is_copied_unless_told" {
  assert {
    condition     = length(aws_s3_bucket_replication_configuration.this) == 0 && length(aws_iam_role.replication) == 0
    error_message = "Without a replica there is no replication."
  }
}

run "speech_is_copied_with_its_deletions" {
  variables {
    replica = {
      key_arn = "arn:aws:kms:eu-west-1:123456789012:key/speech"
      bucket_arns = {
        audio     = "arn:aws:s3:::hearloop-test-standby-audio"
        snapshots = "arn:aws:s3:::hearloop-test-standby-snapshots"
        artifacts = "arn:aws:s3:::hearloop-test-standby-artifacts"
        events    = "arn:aws:s3:::hearloop-test-standby-events"
      }
    }
  }

  assert {
    condition = alltrue([
      for configuration in aws_s3_bucket_replication_configuration.this :
      configuration.rule[0].delete_marker_replication[0].status == "Enabled" &&
      configuration.rule[0].destination[0].encryption_configuration[0].replica_kms_key_id == var.replica.key_arn
    ])
    error_message = "A deletion is copied too, and a copy is encrypted with the other region's key."
  }

  assert {
    condition     = !contains(flatten([for statement in jsondecode(aws_iam_role_policy.replication[0].policy).Statement : statement.Resource]), "*")
    error_message = "The role that copies reaches these buckets and keys alone."
  }
}

run "a_prefix_that_is_too_long_is_refused" {
  command = plan

  variables {
    global_name = "a-name-that-is-so-long-that-no-bucket-could-have-it"
  }

  expect_failures = [var.global_name]
}

run "versions_are_never_off" {
  command = plan

  variables {
    old_version_days = { audio = 0, snapshots = 30, artifacts = 30, events = 7 }
  }

  expect_failures = [var.old_version_days]
}

run "audio_cannot_vanish_within_a_month" {
  command = plan

  variables {
    retention_days = { audio = 7, snapshots = null, artifacts = null, events = 90 }
  }

  expect_failures = [var.retention_days]
}
