output "cluster_name" {
  description = "For `aws eks update-kubeconfig --name`."
  value       = module.cluster.name
}

output "front_door" {
  description = "DNS name and hosted zone of the load balancer."
  value       = module.cluster.front_door
}

output "gateway_node_port" {
  description = "Node port that the gateway's Service must have."
  value       = module.cluster.gateway_node_port
}

output "bucket_names" {
  description = "Buckets by what they hold."
  value       = module.storage.bucket_names
}

output "bucket_arns" {
  description = "ARNs of the buckets, for another region that copies to them."
  value       = module.storage.bucket_arns
}

output "speech_key_arn" {
  description = "ARN of the buckets' key."
  value       = module.speech_key.arn
}

output "database_arn" {
  description = "ARN of the database, for one in another region that follows it."
  value       = module.database.arn
}

output "database_secret" {
  description = "Name and ARN of the secret with the database's password."
  value       = local.database_secret
}

output "platform_key_arn" {
  description = "ARN of the key of everything but speech."
  value       = module.platform_key.arn
}

output "repository_urls" {
  description = "Where images are pushed."
  value       = module.images.repository_urls
}

output "service_accounts" {
  description = "Namespace, name and role of each service account."
  value       = module.workloads.service_accounts
}

output "settings" {
  description = "Settings of hearloop.config that the infrastructure decides, by the names of their variables."
  value       = local.settings
}

output "secret_names" {
  description = "Secrets by what they hold. `gateway` and `ingest` are empty until a person fills them in."
  value = merge(
    { for key, secret in aws_secretsmanager_secret.known : key => secret.name },
    {
      database = local.database_secret.name
      kafka    = module.kafka_credentials.name
      cache    = module.cache_credentials.name
      gateway  = aws_secretsmanager_secret.filled_in["gateway"].name
      ingest   = aws_secretsmanager_secret.filled_in["ingest"].name
    },
  )
}
