output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "cidr" {
  description = "Addresses of the VPC."
  value       = aws_vpc.this.cidr_block
}

output "public_subnet_ids" {
  description = "Subnets with a route to the internet, one a zone: for load balancers alone."
  value       = [for subnet in aws_subnet.public : subnet.id]
}

output "node_subnet_ids" {
  description = "Subnets that go out through NAT, one a zone."
  value       = [for subnet in aws_subnet.nodes : subnet.id]
}

output "data_subnet_ids" {
  description = "Subnets without a way out, one a zone."
  value       = [for subnet in aws_subnet.data : subnet.id]
}
