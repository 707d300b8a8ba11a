# The online store of Feast: Valkey, which speaks Redis. It holds what can be materialised again, so
# that each region has its own.

locals {
  port = 6379
}

resource "aws_security_group" "this" {
  name        = "${var.name}-cache"
  description = "Valkey from the cluster"
  vpc_id      = var.vpc_id

  ingress {
    description     = "Valkey from nodes and pods"
    from_port       = local.port
    to_port         = local.port
    protocol        = "tcp"
    security_groups = [var.client_security_group_id]
  }
}

resource "aws_elasticache_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/hearloop/${var.name}/cache"
  retention_in_days = 365
  kms_key_id        = var.key_arn
}

resource "aws_elasticache_replication_group" "this" {
  # checkov:skip=CKV2_AWS_50:A second node that takes over is var.nodes: production has one, staging materialises again.
  replication_group_id = var.name
  description          = "Feast online store of ${var.name}"
  engine               = "valkey"
  engine_version       = "8.0"
  node_type            = var.node_type
  port                 = local.port

  num_cache_clusters         = var.nodes
  automatic_failover_enabled = var.nodes > 1
  multi_az_enabled           = var.nodes > 1

  subnet_group_name  = aws_elasticache_subnet_group.this.name
  security_group_ids = [aws_security_group.this.id]

  at_rest_encryption_enabled = true
  kms_key_id                 = var.key_arn
  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  auth_token                 = var.password

  auto_minor_version_upgrade = true
  maintenance_window         = "sun:03:00-sun:04:00" # UTC
  snapshot_retention_limit   = 1                     # day: Feast can fill it again

  log_delivery_configuration {
    destination      = aws_cloudwatch_log_group.this.name
    destination_type = "cloudwatch-logs"
    log_format       = "json"
    log_type         = "slow-log"
  }
}
