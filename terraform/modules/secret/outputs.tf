output "arn" {
  description = "ARN of the secret, once it has a value."
  value       = aws_secretsmanager_secret_version.this.arn
}

output "name" {
  description = "Name of the secret, for External Secrets."
  value       = aws_secretsmanager_secret.this.name
}

output "password" {
  description = "The password, for the length of one apply."
  value       = jsondecode(ephemeral.aws_secretsmanager_secret_version.this.secret_string).password
  ephemeral   = true
}

output "generation" {
  description = "Changes when the password does."
  value       = aws_secretsmanager_secret_version.this.secret_string_wo_version
}
