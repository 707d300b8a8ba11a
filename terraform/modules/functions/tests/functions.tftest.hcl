mock_provider "aws" {
  source = "../../tests"
}

variables {
  name        = "hearloop-test"
  global_name = "hearloop-test"
  account_id  = "123456789012"
  image_uri   = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/hearloop/functions:0.1.0"
  bucket_name = "hearloop-test-audio"
  bucket_arn  = "arn:aws:s3:::hearloop-test-audio"
  settings    = { HEARLOOP_SERVING_URL = "https://api.speech.example.com" }

  token_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:hearloop-test/ingest"
  vpc_id           = "vpc-1"
  subnet_ids       = ["subnet-1", "subnet-2"]
  storage_key_arn  = "arn:aws:kms:eu-central-1:123456789012:key/speech"
  key_arn          = "arn:aws:kms:eu-central-1:123456789012:key/platform"
}

run "called_by_uploads_alone" {
  assert {
    condition     = aws_s3_bucket_notification.this.lambda_function[0].filter_prefix == "incoming/"
    error_message = "What the function writes elsewhere does not call it again."
  }

  assert {
    condition     = aws_lambda_permission.bucket.source_arn == var.bucket_arn && aws_lambda_permission.bucket.source_account == var.account_id
    error_message = "Nobody but our bucket calls it."
  }

  assert {
    condition     = aws_lambda_function.this.dead_letter_config[0].target_arn == aws_sqs_queue.failed.arn && aws_lambda_function.this.reserved_concurrent_executions > 0
    error_message = "What fails is set aside, and a flood waits."
  }
}

run "asks_the_model_server" {
  assert {
    condition = aws_lambda_function.this.environment[0].variables == tomap({
      HEARLOOP_SERVING_URL          = "https://api.speech.example.com"
      HEARLOOP_SERVING_TOKEN_SECRET = var.token_secret_arn
    })
    error_message = "It is told where the server is and where its token lies, not the token."
  }

  assert {
    condition     = length(aws_security_group.this.ingress) == 0 && one(aws_security_group.this.egress).from_port == 443 && one(aws_security_group.this.egress).to_port == 443
    error_message = "HTTPS out, nothing in."
  }
}

run "may_do_what_it_needs" {
  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.this.policy).Statement : statement.Sid
      if contains(flatten([statement.Resource]), "*")
    ] == ["Trace"]
    error_message = "Only X-Ray's calls, which take no resource, name all of them."
  }

  assert {
    condition     = alltrue(flatten([for statement in jsondecode(aws_iam_role_policy.this.policy).Statement : [for action in statement.Action : !strcontains(action, "*")]]))
    error_message = "Every action is named."
  }
}

run "everything_is_encrypted" {
  assert {
    condition     = aws_lambda_function.this.kms_key_arn == var.key_arn && aws_sqs_queue.failed.kms_master_key_id == var.key_arn && aws_cloudwatch_log_group.this.kms_key_id == var.key_arn
    error_message = "Settings, failures and logs are encrypted with our key."
  }
}

run "a_token_in_the_clear_is_refused" {
  command = plan

  variables {
    settings = { HEARLOOP_SERVING_URL = "http://api.speech.example.com" }
  }

  expect_failures = [var.settings]
}

run "an_image_that_moves_is_refused" {
  command = plan

  variables {
    image_uri = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/hearloop/functions:latest"
  }

  expect_failures = [var.image_uri]
}
