output "name" {
  description = "For `aws eks update-kubeconfig --name`."
  value       = aws_eks_cluster.this.name
}

output "endpoint" {
  description = "The Kubernetes API."
  value       = aws_eks_cluster.this.endpoint
}

output "security_group_id" {
  description = "The group of control plane and nodes, which database, brokers and cache let in."
  value       = aws_security_group.cluster.id
}

output "identity_provider" {
  description = "ARN and issuer of the cluster's identity provider, for the roles of service accounts."
  value       = { arn = aws_iam_openid_connect_provider.this.arn, issuer = local.issuer }
}

output "front_door" {
  description = "DNS name and hosted zone of the load balancer, for the records of `edge`."
  value       = { hostname = aws_lb.front_door.dns_name, zone_id = aws_lb.front_door.zone_id }
}

output "gateway_node_port" {
  description = "Node port that the gateway's Service must have."
  value       = var.gateway_node_port
}
