output "name_servers" {
  description = "Name servers that the owner of the domain delegates it to."
  value       = aws_route53_zone.this.name_servers
}

output "api_host" {
  description = "Where speech is recognised."
  value       = "api.${var.domain}"
}

output "corrections_host" {
  description = "Where corrections are sent."
  value       = "corrections.${var.domain}"
}
