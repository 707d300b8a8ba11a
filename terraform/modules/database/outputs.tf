output "arn" {
  description = "ARN of the server, for one in another region that follows it."
  value       = aws_db_instance.this.arn
}

output "host" {
  description = "Host name of the server."
  value       = aws_db_instance.this.address
}

output "port" {
  description = "Port of the server."
  value       = local.port
}

output "identifier" {
  description = "Name of the server, for the alarms."
  value       = aws_db_instance.this.identifier
}
