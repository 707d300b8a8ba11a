output "regions" {
  description = "What the clusters, the buckets and the secrets of each region are called, and where callers come in."
  value = {
    (var.primary_region) = module.primary
    (var.standby_region) = module.standby
  }
}

output "edge" {
  description = "Names that callers use, and the name servers that the domain is delegated to."
  value       = module.edge
}
