mock_provider "aws" {
  source = "../../tests"
}

variables {
  name        = "hearloop-test"
  description = "Everything"
}

run "rotates_and_belongs_to_the_account" {
  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_kms_key.this.deletion_window_in_days == 30
    error_message = "The key rotates, and cannot be lost in a hurry."
  }

  assert {
    condition     = [for statement in jsondecode(aws_kms_key.this.policy).Statement : statement.Sid] == ["AccountByIamPolicies"]
    error_message = "Nobody but the account, unless services are named."
  }
}

run "a_service_that_is_none_is_refused" {
  command = plan

  variables {
    services = ["logs.example.com"]
  }

  expect_failures = [var.services]
}
