output "function_name" {
  description = "Name of the function, for the alarms."
  value       = aws_lambda_function.this.function_name
}

output "failed_queue" {
  description = "Name of the queue of what could not be taken in."
  value       = aws_sqs_queue.failed.name
}
