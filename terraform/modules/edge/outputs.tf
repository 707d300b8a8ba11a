output "name_servers" {
  description = "Name servers that the owner of the domain delegates it to."
  value       = aws_route53_zone.this.name_servers
}

output "hosts" {
  description = "Names that callers use: for the gateway's certificate and the overlay's endpoints."
  value       = concat(local.recognising, ["corrections.${var.domain}"])
}
