mock_provider "aws" {
  source = "../../tests"
}

variables {
  global_name       = "hearloop-test"
  namespace         = "hearloop"
  cluster_name      = "hearloop-test"
  region            = "eu-central-1"
  account_id        = "123456789012"
  identity_provider = { arn = "arn:aws:iam::123456789012:oidc-provider/issuer.example.com/id", issuer = "issuer.example.com/id" }
  storage_key_arn   = "arn:aws:kms:eu-central-1:123456789012:key/speech"
  secrets_key_arn   = "arn:aws:kms:eu-central-1:123456789012:key/platform"
  secret_arns       = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:hearloop-test/database"]

  bucket_arns = {
    audio     = "arn:aws:s3:::hearloop-test-audio"
    snapshots = "arn:aws:s3:::hearloop-test-snapshots"
    artifacts = "arn:aws:s3:::hearloop-test-artifacts"
    events    = "arn:aws:s3:::hearloop-test-events"
  }
}

run "no_wildcard_but_those_that_aws_insists_on" {
  assert {
    condition = alltrue(flatten([
      for policy in concat(values(aws_iam_role_policy.speech)[*].policy, values(aws_iam_role_policy.platform)[*].policy) : [
        for statement in jsondecode(policy).Statement :
        !contains(statement.Resource, "*") || statement.Sid == "SeeWhatThereIs"
      ]
    ]))
    error_message = "Only calls that take no resource (SeeWhatThereIs: Describe*) may name all of them."
  }

  assert {
    condition = alltrue(flatten([
      for policy in concat(values(aws_iam_role_policy.speech)[*].policy, values(aws_iam_role_policy.platform)[*].policy) : [
        for statement in jsondecode(policy).Statement : [for action in statement.Action : !strcontains(action, "*")]
      ]
    ]))
    error_message = "Every action is named."
  }
}

run "a_role_belongs_to_one_service_account" {
  assert {
    condition = alltrue([
      for workload, role in aws_iam_role.this :
      jsondecode(role.assume_role_policy).Statement[0].Condition.StringEquals["issuer.example.com/id:sub"] == "system:serviceaccount:${output.service_accounts[workload].namespace}:${output.service_accounts[workload].name}"
    ])
    error_message = "Nobody but the service account may take its role."
  }
}

run "only_pipelines_delete_for_good" {
  assert {
    condition = [
      for workload, policy in aws_iam_role_policy.speech : workload
      if anytrue([for statement in jsondecode(policy.policy).Statement : contains(statement.Action, "s3:DeleteObjectVersion")])
    ] == ["pipeline"]
    error_message = "Erasure is a step of a pipeline; nobody else removes old versions."
  }

  assert {
    condition     = contains(jsondecode(aws_iam_role_policy.speech["pipeline"].policy).Statement[0].Action, "s3:ListBucketVersions")
    error_message = "Old versions are found before they are removed."
  }

  assert {
    condition     = alltrue([for statement in jsondecode(aws_iam_role_policy.speech["feedback"].policy).Statement : !contains(statement.Action, "s3:PutObject")])
    error_message = "The feedback service reads audio, and writes none."
  }
}
