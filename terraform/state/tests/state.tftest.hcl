# Planned, not applied: the bucket refuses to be destroyed afterwards.
mock_provider "aws" {
  source          = "../tests"
  override_during = plan
}

variables {
  bucket = "hearloop-state"
}

run "closed_encrypted_and_versioned" {
  command = plan

  assert {
    condition     = aws_s3_bucket_public_access_block.this.restrict_public_buckets && aws_s3_bucket_public_access_block.this.block_public_policy && aws_s3_bucket_ownership_controls.this.rule[0].object_ownership == "BucketOwnerEnforced"
    error_message = "Nobody outside reads the state."
  }

  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default[0].kms_master_key_id == module.key.arn && aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "The state is encrypted with our key, and what was overwritten comes back."
  }

  assert {
    condition = [for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement.Condition if statement.Effect == "Deny"] == [
      { Bool = { "aws:SecureTransport" = "false" } }
    ]
    error_message = "The state travels over TLS alone."
  }
}

run "a_bucket_that_cannot_be_is_refused" {
  command = plan

  variables {
    bucket = "Hearloop_State"
  }

  expect_failures = [var.bucket]
}
