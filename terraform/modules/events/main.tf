# The event log: MSK, with TLS everywhere and a password (SCRAM). Topics are made in the cluster (k8s),
# because nothing outside the VPC reaches the brokers.
#
# Each region has a log of its own: its monitor watches its own calls. What must survive a region is
# in the buckets and in Postgres, which are copied.

locals {
  port = 9096 # SASL/SCRAM over TLS

  # What is written is on two brokers before it counts. Of production's three one may go; staging's two
  # take no writes without the other.
  server_properties = {
    "auto.create.topics.enable"      = false
    "default.replication.factor"     = min(3, var.brokers)
    "min.insync.replicas"            = 2
    "num.partitions"                 = 6
    "unclean.leader.election.enable" = false
    "log.retention.hours"            = 24 * var.retention_days
    "allow.everyone.if.no.acl.found" = true # one user, for whom the security group opens
  }
}

resource "aws_security_group" "this" {
  name        = "${var.name}-events"
  description = "Kafka from the cluster"
  vpc_id      = var.vpc_id

  ingress {
    description     = "Kafka from nodes and pods"
    from_port       = local.port
    to_port         = local.port
    protocol        = "tcp"
    security_groups = [var.client_security_group_id]
  }

  dynamic "ingress" {
    for_each = { "JMX exporter" = 11001, "node exporter" = 11002 }

    content {
      description     = "Prometheus in the cluster: ${ingress.key}"
      from_port       = ingress.value
      to_port         = ingress.value
      protocol        = "tcp"
      security_groups = [var.client_security_group_id]
    }
  }
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/hearloop/${var.name}/brokers"
  retention_in_days = 365
  kms_key_id        = var.key_arn
}

resource "aws_msk_configuration" "this" {
  name           = var.name
  kafka_versions = [var.kafka_version]

  server_properties = join("\n", [for key, value in local.server_properties : "${key}=${value}"])

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_msk_cluster" "this" {
  cluster_name           = var.name
  kafka_version          = var.kafka_version
  number_of_broker_nodes = var.brokers
  enhanced_monitoring    = "PER_TOPIC_PER_BROKER"

  broker_node_group_info {
    instance_type   = var.instance_type
    client_subnets  = var.subnet_ids
    security_groups = [aws_security_group.this.id]

    storage_info {
      ebs_storage_info {
        volume_size = 50 # GB, to begin with
      }
    }

    connectivity_info {
      public_access {
        type = "DISABLED"
      }
    }
  }

  configuration_info {
    arn      = aws_msk_configuration.this.arn
    revision = aws_msk_configuration.this.latest_revision
  }

  client_authentication {
    unauthenticated = false

    sasl {
      scram = true
    }
  }

  encryption_info {
    encryption_at_rest_kms_key_arn = var.key_arn

    encryption_in_transit {
      client_broker = "TLS"
      in_cluster    = true
    }
  }

  open_monitoring {
    prometheus {
      jmx_exporter {
        enabled_in_broker = true
      }

      node_exporter {
        enabled_in_broker = true
      }
    }
  }

  logging_info {
    broker_logs {
      cloudwatch_logs {
        enabled   = true
        log_group = aws_cloudwatch_log_group.this.name
      }
    }
  }

  lifecycle {
    ignore_changes = [broker_node_group_info[0].storage_info[0].ebs_storage_info[0].volume_size] # it grows by itself
  }
}

resource "aws_msk_scram_secret_association" "this" {
  cluster_arn     = aws_msk_cluster.this.arn
  secret_arn_list = [var.credentials_secret_arn]
}

# --- storage grows before it is full

resource "aws_appautoscaling_target" "storage" {
  service_namespace  = "kafka"
  resource_id        = aws_msk_cluster.this.arn
  scalable_dimension = "kafka:broker-storage:VolumeSize"
  min_capacity       = 1
  max_capacity       = 500 # GB
}

resource "aws_appautoscaling_policy" "storage" {
  name               = "${var.name}-broker-storage"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.storage.service_namespace
  resource_id        = aws_appautoscaling_target.storage.resource_id
  scalable_dimension = aws_appautoscaling_target.storage.scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value     = 60 # % full
    disable_scale_in = true

    predefined_metric_specification {
      predefined_metric_type = "KafkaBrokerStorageUtilization"
    }
  }
}
