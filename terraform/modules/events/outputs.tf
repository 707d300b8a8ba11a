output "bootstrap_servers" {
  description = "HEARLOOP_KAFKA__BOOTSTRAP_SERVERS."
  value       = aws_msk_cluster.this.bootstrap_brokers_sasl_scram
}

output "security_protocol" {
  description = "HEARLOOP_KAFKA__SECURITY_PROTOCOL."
  value       = "SASL_SSL"
}

output "sasl_mechanism" {
  description = "HEARLOOP_KAFKA__SASL_MECHANISM."
  value       = "SCRAM-SHA-512"
}
