output "function_name" {
  description = "Name of the function, for the alarms."
  value       = aws_lambda_function.this.function_name
}
