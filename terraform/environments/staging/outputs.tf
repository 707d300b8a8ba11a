output "regions" {
  description = "What the cluster, the buckets and the secrets of this environment are called, and where callers come in."
  value       = { (var.region) = module.platform }
}

output "edge" {
  description = "Names that callers use, and the name servers that the domain is delegated to."
  value       = module.edge
}
