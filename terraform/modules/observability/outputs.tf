output "alarm_topic_arn" {
  description = "Where alarms are published."
  value       = aws_sns_topic.alarms.arn
}

output "log_group_names" {
  description = "Log groups of the platform."
  value       = { for key, group in aws_cloudwatch_log_group.this : key => group.name }
}
