mock_provider "aws" {
  source = "../../tests"
}

variables {
  name       = "hearloop-test"
  emails     = ["oncall@example.com"]
  budget_usd = 1500
  key_arn    = "arn:aws:kms:eu-central-1:123456789012:key/platform"

  anomalies = {
    uploads = { means = "m", namespace = "AWS/Lambda", metric = "Invocations", dimensions = {}, statistic = "Sum", low = true }
    latency = { means = "m", namespace = "AWS/Lambda", metric = "Duration", dimensions = {}, statistic = "Average" }
  }

  limits = {
    failed  = { means = "m", namespace = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", dimensions = {}, statistic = "Maximum", above = 0 }
    storage = { means = "m", namespace = "AWS/RDS", metric = "FreeStorageSpace", dimensions = {}, statistic = "Minimum", below = 5000000000 }
  }
}

run "bands_on_the_side_that_matters" {
  assert {
    condition     = aws_cloudwatch_metric_alarm.anomaly["uploads"].comparison_operator == "LessThanLowerOrGreaterThanUpperThreshold" && aws_cloudwatch_metric_alarm.anomaly["latency"].comparison_operator == "GreaterThanUpperThreshold"
    error_message = "Silence is a sign for uploads; being fast is none for latency."
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.anomaly : anytrue([for query in alarm.metric_query : strcontains(query.expression == null ? "" : query.expression, "ANOMALY_DETECTION_BAND")])])
    error_message = "Each is held against a learnt band."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.limit["storage"].comparison_operator == "LessThanThreshold" && aws_cloudwatch_metric_alarm.limit["failed"].threshold == 0
    error_message = "Limits ring on their side."
  }
}

run "somebody_is_told_and_nobody_else" {
  assert {
    condition     = aws_sns_topic.alarms.kms_master_key_id == var.key_arn && toset(keys(aws_sns_topic_subscription.email)) == var.emails
    error_message = "Alarms are encrypted and sent to the addresses given."
  }

  assert {
    condition     = jsondecode(aws_sns_topic_policy.alarms.policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "123456789012"
    error_message = "Only this account's alarms are published."
  }

  assert {
    condition     = alltrue([for group in aws_cloudwatch_log_group.this : group.kms_key_id == var.key_arn && group.retention_in_days == 365])
    error_message = "Logs are encrypted, and not kept for ever."
  }
}

run "the_bill_is_watched" {
  assert {
    condition     = toset(aws_budgets_budget.this[0].notification[*].notification_type) == toset(["FORECASTED", "ACTUAL"]) && one(aws_budgets_budget.this[0].cost_filter).values == tolist(["user:Environment$hearloop-test"])
    error_message = "Told in time and when it has happened, for this environment's resources."
  }
}

run "a_limit_with_two_sides_is_refused" {
  command = plan

  variables {
    limits = {
      both = { means = "m", namespace = "n", metric = "m", dimensions = {}, statistic = "Sum", above = 1, below = 0 }
    }
  }

  expect_failures = [var.limits]
}
