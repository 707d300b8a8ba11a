mock_provider "aws" {
  source = "../../tests"
}

variables {
  name              = "hearloop-test"
  global_name       = "hearloop-test"
  vpc_id            = "vpc-1"
  vpc_cidr          = "10.20.0.0/16"
  public_subnet_ids = ["subnet-1", "subnet-2"]
  node_subnet_ids   = ["subnet-3", "subnet-4"]
  key_arn           = "arn:aws:kms:eu-central-1:123456789012:key/platform"
  log_bucket        = "hearloop-test-logs"
  disposable        = false
  admin_role_arns   = { operators = "arn:aws:iam::123456789012:role/operators" }

  node_groups = {
    cpu = { instance_types = ["m7i.large"], least = 2, most = 5 }
    gpu = { instance_types = ["g5.xlarge"], least = 0, most = 1, gpu = true }
  }
}

run "gpus_reach_zero" {
  assert {
    condition     = aws_eks_node_group.this["gpu"].scaling_config[0].min_size == 0 && aws_eks_node_group.this["gpu"].scaling_config[0].desired_size == 0
    error_message = "No GPU runs while nothing asks for one."
  }

  assert {
    condition     = one(aws_eks_node_group.this["gpu"].taint).effect == "NO_SCHEDULE" && length(aws_eks_node_group.this["cpu"].taint) == 0
    error_message = "Only what asks for a GPU runs beside one."
  }
}

run "gpus_come_back" {
  assert {
    condition = { for tag in aws_autoscaling_group_tag.template : trimprefix(tag.tag[0].key, "k8s.io/cluster-autoscaler/node-template/") => tag.tag[0].value } == {
      "label/hearloop/nodes"                = "gpu"
      "label/k8s.amazonaws.com/accelerator" = "nvidia"
      "taint/nvidia.com/gpu"                = "present:NoSchedule"
    }
    error_message = "The autoscaler knows what a node of an empty group would be like."
  }

  assert {
    condition     = one(aws_eks_node_group.this["gpu"].taint).key == "nvidia.com/gpu" && aws_eks_node_group.this["gpu"].labels == tomap({ "hearloop/nodes" = "gpu", "k8s.amazonaws.com/accelerator" = "nvidia" })
    error_message = "And the node is like that."
  }
}

run "the_api_is_closed_and_secrets_are_encrypted" {
  assert {
    condition     = !aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].endpoint_private_access
    error_message = "Without named addresses the API has no public endpoint."
  }

  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API"
    error_message = "Access is granted by access entries, not by a ConfigMap."
  }

  assert {
    condition     = aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == var.key_arn
    error_message = "Kubernetes Secrets are encrypted with our key."
  }

  assert {
    condition     = contains(aws_eks_cluster.this.enabled_cluster_log_types, "audit")
    error_message = "The audit log is kept."
  }

  assert {
    condition     = aws_eks_access_entry.admin["operators"].principal_arn == var.admin_role_arns["operators"] && aws_eks_access_policy_association.admin["operators"].access_scope[0].type == "cluster"
    error_message = "Administrators get in."
  }
}

run "pods_cannot_take_the_nodes_role" {
  assert {
    condition = alltrue([
      for template in aws_launch_template.nodes :
      template.metadata_options[0].http_tokens == "required" && template.metadata_options[0].http_put_response_hop_limit == 1
    ])
    error_message = "The node's credentials are out of reach for pods."
  }

  assert {
    condition     = alltrue([for template in aws_launch_template.nodes : tobool(template.block_device_mappings[0].ebs[0].encrypted)])
    error_message = "The nodes' disks are encrypted."
  }

  assert {
    condition     = jsondecode(aws_iam_role.addon["aws-ebs-csi-driver"].assume_role_policy).Statement[0].Condition.StringEquals["issuer.example.com/id:sub"] == "system:serviceaccount:kube-system:ebs-csi-controller-sa"
    error_message = "One service account alone may take the role of the volume driver."
  }
}

run "addons_and_front_door" {
  assert {
    condition     = toset(keys(aws_eks_addon.this)) == toset(["vpc-cni", "kube-proxy", "coredns", "aws-ebs-csi-driver", "amazon-cloudwatch-observability"])
    error_message = "The add-ons that a cluster needs, for EKS brings none of its own, and the one that keeps logs."
  }

  assert {
    condition     = jsondecode(aws_eks_addon.this["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "Network policies are enforced."
  }

  assert {
    condition     = toset(keys(aws_autoscaling_attachment.gateway)) == toset(["cpu"])
    error_message = "Callers are sent to the nodes that carry the gateway."
  }

  assert {
    condition = alltrue([
      for rule in [aws_vpc_security_group_ingress_rule.front_door, aws_vpc_security_group_egress_rule.gateway] :
      rule.from_port == var.gateway_node_port && rule.to_port == var.gateway_node_port && rule.cidr_ipv4 == null && rule.description != null
    ])
    error_message = "From the front door to the gateway's node port, and nowhere else."
  }

  assert {
    condition     = aws_lb.front_door.enable_deletion_protection && aws_lb.front_door.access_logs[0].enabled
    error_message = "The front door is protected and logs who comes in."
  }
}

run "a_gpu_that_never_stops_is_refused" {
  command = plan

  variables {
    node_groups = {
      cpu = { instance_types = ["m7i.large"], least = 2, most = 5 }
      gpu = { instance_types = ["g5.xlarge"], least = 1, most = 1, gpu = true }
    }
  }

  expect_failures = [var.node_groups]
}

run "an_api_for_the_whole_internet_is_refused" {
  command = plan

  variables {
    api_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.api_cidrs]
}
