# EKS: a control plane that only the VPC and named addresses reach, nodes for everything (cpu) and
# nodes for training that come and go (gpu), and who pods are to AWS. The autoscaler that makes nodes
# come and go is one of the platforms (k8s/platforms); its role is in the workloads module.

data "aws_partition" "current" {}

locals {
  managed_policy = "arn:${data.aws_partition.current.partition}:iam::aws:policy"
  issuer         = trimprefix(aws_iam_openid_connect_provider.this.url, "https://")
}

# --- control plane

resource "aws_cloudwatch_log_group" "control_plane" {
  name              = "/aws/eks/${var.name}/cluster" # EKS writes here and nowhere else
  retention_in_days = 365
  kms_key_id        = var.key_arn
}

resource "aws_eks_cluster" "this" {
  # checkov:skip=CKV_AWS_39:Open to var.api_cidrs alone; an empty list, the default, closes the public endpoint.
  name                      = var.name
  version                   = var.kubernetes_version
  role_arn                  = aws_iam_role.control_plane.arn
  enabled_cluster_log_types = ["api", "audit", "authenticator", "controllerManager", "scheduler"]

  # The add-ons below are the ones there are; EKS brings none of its own.
  bootstrap_self_managed_addons = false

  vpc_config {
    subnet_ids              = var.node_subnet_ids
    security_group_ids      = [aws_security_group.cluster.id]
    endpoint_private_access = true
    endpoint_public_access  = length(var.api_cidrs) > 0
    public_access_cidrs     = length(var.api_cidrs) > 0 ? var.api_cidrs : null
  }

  access_config {
    authentication_mode                         = "API"
    bootstrap_cluster_creator_admin_permissions = true # who applies this installs the platform next
  }

  encryption_config {
    resources = ["secrets"]

    provider {
      key_arn = var.key_arn
    }
  }

  depends_on = [
    aws_cloudwatch_log_group.control_plane,
    aws_iam_role_policy_attachment.control_plane,
  ]
}

resource "aws_eks_access_entry" "admin" {
  for_each = var.admin_role_arns

  cluster_name  = aws_eks_cluster.this.name
  principal_arn = each.value
}

resource "aws_eks_access_policy_association" "admin" {
  for_each = var.admin_role_arns

  cluster_name  = aws_eks_cluster.this.name
  principal_arn = aws_eks_access_entry.admin[each.key].principal_arn
  policy_arn    = "arn:${data.aws_partition.current.partition}:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"

  access_scope {
    type = "cluster"
  }
}

resource "aws_iam_role" "control_plane" {
  name = "${var.global_name}-control-plane"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "eks.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy_attachment" "control_plane" {
  role       = aws_iam_role.control_plane.name
  policy_arn = "${local.managed_policy}/AmazonEKSClusterPolicy"
}

# --- nodes

# One group for control plane and nodes: they trust each other, and nobody else comes in.
resource "aws_security_group" "cluster" {
  name        = "${var.name}-cluster"
  description = "Control plane and nodes of ${var.name}"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-cluster" }
}

resource "aws_vpc_security_group_ingress_rule" "each_other" {
  security_group_id            = aws_security_group.cluster.id
  description                  = "Control plane, nodes and pods among themselves"
  referenced_security_group_id = aws_security_group.cluster.id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_ingress_rule" "front_door" {
  security_group_id            = aws_security_group.cluster.id
  description                  = "The load balancer to the gateway"
  referenced_security_group_id = aws_security_group.front_door.id
  from_port                    = var.gateway_node_port
  to_port                      = var.gateway_node_port
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "vpc" {
  security_group_id = aws_security_group.cluster.id
  description       = "Database, brokers, cache and endpoints of this VPC"
  cidr_ipv4         = var.vpc_cidr
  ip_protocol       = "-1"
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.cluster.id
  description       = "AWS services that have no endpoint here, and image registries"
  cidr_ipv4         = "0.0.0.0/0"
  from_port         = 443
  to_port           = 443
  ip_protocol       = "tcp"
}

resource "aws_iam_role" "nodes" {
  name = "${var.global_name}-nodes"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

# What a node needs to join and to pull images. Pods get none of it: see the hop limit below.
resource "aws_iam_role_policy_attachment" "nodes" {
  for_each = toset(["AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryPullOnly"])

  role       = aws_iam_role.nodes.name
  policy_arn = "${local.managed_policy}/${each.key}"
}

resource "aws_launch_template" "nodes" {
  for_each = var.node_groups

  name                   = "${var.name}-${each.key}"
  vpc_security_group_ids = [aws_security_group.cluster.id]

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1 # a pod is one hop further: it cannot borrow the node's role
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size           = each.value.disk_gb
      volume_type           = "gp3"
      encrypted             = true
      delete_on_termination = true
    }
  }

  monitoring {
    enabled = true
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = "${var.name}-${each.key}" }
  }
}

resource "aws_eks_node_group" "this" {
  for_each = var.node_groups

  cluster_name    = aws_eks_cluster.this.name
  node_group_name = each.key
  node_role_arn   = aws_iam_role.nodes.arn
  subnet_ids      = var.node_subnet_ids
  instance_types  = each.value.instance_types
  capacity_type   = each.value.spot ? "SPOT" : "ON_DEMAND"
  ami_type        = each.value.gpu ? "AL2023_x86_64_NVIDIA" : "AL2023_x86_64_STANDARD"

  launch_template {
    id      = aws_launch_template.nodes[each.key].id
    version = aws_launch_template.nodes[each.key].latest_version
  }

  scaling_config {
    min_size     = each.value.least
    max_size     = each.value.most
    desired_size = each.value.least
  }

  update_config {
    max_unavailable = 1
  }

  # By the second label the autoscaler knows that a new node whose GPU is not there yet is not ready,
  # and does not order another one.
  labels = merge(
    { "hearloop/nodes" = each.value.gpu ? "gpu" : "cpu" },
    each.value.gpu ? { "k8s.amazonaws.com/accelerator" = "nvidia" } : {},
  )

  # Only what asks for a GPU runs beside one, so that an idle node is empty and can go.
  dynamic "taint" {
    for_each = each.value.gpu ? ["nvidia.com/gpu"] : []

    content {
      key    = taint.value
      value  = "present"
      effect = "NO_SCHEDULE"
    }
  }

  lifecycle {
    ignore_changes = [scaling_config[0].desired_size] # the autoscaler's business
  }

  depends_on = [aws_iam_role_policy_attachment.nodes]
}

# Without a node to look at, the autoscaler reads from these tags what a new one would be like; how
# many GPUs it would have, EC2 tells it by the type.
resource "aws_autoscaling_group_tag" "template" {
  for_each = merge([
    for name, group in var.node_groups : {
      "${name} label" = { group = name, key = "label/hearloop/nodes", value = "gpu" }
      "${name} taint" = { group = name, key = "taint/nvidia.com/gpu", value = "present:NoSchedule" }
      "${name} ready" = { group = name, key = "label/k8s.amazonaws.com/accelerator", value = "nvidia" }
    } if group.gpu
  ]...)

  autoscaling_group_name = aws_eks_node_group.this[each.value.group].resources[0].autoscaling_groups[0].name

  tag {
    key                 = "k8s.io/cluster-autoscaler/node-template/${each.value.key}"
    value               = each.value.value
    propagate_at_launch = false
  }
}

# --- add-ons, in the versions that EKS gives by default for the cluster's

locals {
  # Service account and policy of those that call AWS.
  addon_roles = {
    aws-ebs-csi-driver              = { name = "volumes", account = "kube-system:ebs-csi-controller-sa", policy = "service-role/AmazonEBSCSIDriverPolicy" }
    amazon-cloudwatch-observability = { name = "logs", account = "amazon-cloudwatch:cloudwatch-agent", policy = "CloudWatchAgentServerPolicy" }
  }

  addon_settings = {
    vpc-cni                         = { enableNetworkPolicy = "true" }       # the manifests' NetworkPolicies are enforced
    amazon-cloudwatch-observability = { containerLogs = { enabled = true } } # to the log groups of the observability module
  }
}

resource "aws_eks_addon" "this" {
  for_each = toset(["vpc-cni", "kube-proxy", "coredns", "aws-ebs-csi-driver", "amazon-cloudwatch-observability"])

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  service_account_role_arn    = contains(keys(local.addon_roles), each.key) ? aws_iam_role.addon[each.key].arn : null
  configuration_values        = contains(keys(local.addon_settings), each.key) ? jsonencode(local.addon_settings[each.key]) : null
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"
}

# --- workload identity: pods exchange their service account's token for a role (IRSA)

resource "aws_iam_openid_connect_provider" "this" {
  url            = aws_eks_cluster.this.identity[0].oidc[0].issuer
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "addon" {
  for_each = local.addon_roles

  name = "${var.global_name}-${each.value.name}"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = aws_iam_openid_connect_provider.this.arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = {
          "${local.issuer}:aud" = "sts.amazonaws.com"
          "${local.issuer}:sub" = "system:serviceaccount:${each.value.account}"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "addon" {
  for_each = local.addon_roles

  role       = aws_iam_role.addon[each.key].name
  policy_arn = "${local.managed_policy}/${each.value.policy}"
}
