output "bucket_names" {
  description = "For the ConfigMap of k8s/overlays/staging."
  value       = module.storage.bucket_names
}

output "kms_key_arn" {
  description = "For the IAM roles of the workloads."
  value       = module.storage.kms_key_arn
}
