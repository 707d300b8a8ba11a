# What CloudWatch watches because nothing in the cluster can: AWS's own parts, and the bill. Speech,
# latency and pipelines are watched by Prometheus (monitoring/).

data "aws_caller_identity" "current" {}

# Where the cluster's CloudWatch add-on writes: what pods, nodes and the kubelet say.
resource "aws_cloudwatch_log_group" "this" {
  for_each = toset(["application", "dataplane", "host"])

  name              = "/aws/containerinsights/${var.name}/${each.key}"
  retention_in_days = 365
  kms_key_id        = var.key_arn
}

# --- who is told

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = var.key_arn
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AlarmsAndBudgetOfThisAccount"
      Effect    = "Allow"
      Principal = { Service = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"] }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.alarms.arn
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

resource "aws_sns_topic_subscription" "email" {
  for_each = var.emails

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.value
}

# --- alarms

# Bands of three standard deviations, learnt from two weeks, by hour of the day and day of the week: what is unusual, whatever is
# usual.
resource "aws_cloudwatch_metric_alarm" "anomaly" {
  for_each = var.anomalies

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.means
  comparison_operator = each.value.low ? "LessThanLowerOrGreaterThanUpperThreshold" : "GreaterThanUpperThreshold"
  threshold_metric_id = "band"
  evaluation_periods  = 3
  datapoints_to_alarm = 3
  treat_missing_data  = "ignore"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "band"
    expression  = "ANOMALY_DETECTION_BAND(seen, ${3})"
    label       = "expected"
    return_data = true
  }

  metric_query {
    id          = "seen"
    return_data = true

    metric {
      namespace   = each.value.namespace
      metric_name = each.value.metric
      dimensions  = each.value.dimensions
      stat        = each.value.statistic
      period      = 300 # seconds
    }
  }
}

# Limits that hold whatever is usual.
resource "aws_cloudwatch_metric_alarm" "limit" {
  for_each = var.limits

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.means
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = each.value.below == null ? "GreaterThanThreshold" : "LessThanThreshold"
  threshold           = each.value.below == null ? each.value.above : each.value.below
  period              = 300 # seconds
  evaluation_periods  = 2
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

# --- the bill

resource "aws_budgets_budget" "this" {
  count = var.budget_usd == null ? 0 : 1

  name         = var.name
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = tostring(var.budget_usd)
  limit_unit   = "USD"

  cost_filter {
    name   = "TagKeyValue"
    values = [format("user:Environment$%s", var.name)]
  }

  # Told in time to do something, and again when it has happened.
  dynamic "notification" {
    for_each = { FORECASTED = 100, ACTUAL = 80 }

    content {
      notification_type         = notification.key
      threshold                 = notification.value
      threshold_type            = "PERCENTAGE"
      comparison_operator       = "GREATER_THAN"
      subscriber_sns_topic_arns = [aws_sns_topic.alarms.arn]
    }
  }
}
