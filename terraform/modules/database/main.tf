# One Postgres for MLflow, Kubeflow Pipelines, the Feast registry, and Hearloop's corrections,
# decisions and audit log, each in a database of its own. Terraform makes the server and the first
# database; a Job in the cluster makes the others, because nothing outside the VPC reaches them.

locals {
  port    = 5432
  replica = var.replicate_from != null
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_security_group" "this" {
  name        = "${var.name}-database"
  description = "Postgres from the cluster"
  vpc_id      = var.vpc_id

  ingress {
    description     = "Postgres from nodes and pods"
    from_port       = local.port
    to_port         = local.port
    protocol        = "tcp"
    security_groups = [var.client_security_group_id]
  }
}

resource "aws_db_parameter_group" "this" {
  name        = var.name
  family      = "postgres${split(".", var.engine_version)[0]}"
  description = "TLS only; statements slower than a second and every schema change are logged"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter {
    name  = "log_statement"
    value = "ddl"
  }

  parameter {
    name  = "log_min_duration_statement"
    value = "1000" # ms
  }
}

resource "aws_cloudwatch_log_group" "this" {
  for_each = toset(["postgresql", "upgrade"])

  name              = "/aws/rds/instance/${var.name}/${each.key}" # RDS writes here and nowhere else
  retention_in_days = 365
  kms_key_id        = var.key_arn
}

resource "aws_iam_role" "monitoring" {
  name = "${var.global_name}-database-monitoring"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "monitoring.rds.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

data "aws_partition" "current" {}

resource "aws_iam_role_policy_attachment" "monitoring" {
  role       = aws_iam_role.monitoring.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}

resource "aws_db_instance" "this" {
  # checkov:skip=CKV_AWS_157:A standby in another zone is var.multi_az: production has one, staging does without.
  # checkov:skip=CKV_AWS_293:Protected from deletion unless var.disposable, which only staging is.
  identifier     = var.name
  instance_class = var.instance_class

  # A replica takes all of this from the one it follows.
  replicate_source_db = var.replicate_from
  engine              = local.replica ? null : "postgres"
  engine_version      = local.replica ? null : var.engine_version
  db_name             = local.replica ? null : "hearloop"
  username            = local.replica ? null : var.username
  password_wo         = local.replica ? null : var.password
  password_wo_version = local.replica ? null : var.password_generation

  allocated_storage     = local.replica ? null : 50 # GB, to begin with
  max_allocated_storage = 500
  storage_type          = "gp3"
  storage_encrypted     = true
  kms_key_id            = var.key_arn

  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.this.id]
  publicly_accessible    = false
  port                   = local.port
  multi_az               = var.multi_az
  parameter_group_name   = aws_db_parameter_group.this.name

  iam_database_authentication_enabled = true
  auto_minor_version_upgrade          = true
  maintenance_window                  = "sun:02:00-sun:03:00" # UTC, after the backup
  backup_window                       = "00:30-01:30"
  backup_retention_period             = var.backup_days
  copy_tags_to_snapshot               = true

  performance_insights_enabled    = true
  performance_insights_kms_key_id = var.key_arn
  monitoring_interval             = 60 # seconds
  monitoring_role_arn             = aws_iam_role.monitoring.arn
  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]

  # A replica holds nothing of its own, and RDS takes no last snapshot of it.
  deletion_protection       = !var.disposable && !local.replica
  skip_final_snapshot       = var.disposable || local.replica
  final_snapshot_identifier = var.disposable || local.replica ? null : "${var.name}-final"

  depends_on = [aws_cloudwatch_log_group.this]
}
