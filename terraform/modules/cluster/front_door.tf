# The front door: a network load balancer that hands TCP 443 to the gateway's node port. TLS ends in
# the gateway, because it checks clients' certificates. A load balancer made here, not by a
# controller in the cluster, has a name that DNS can point to in the same apply.

resource "aws_security_group" "front_door" {
  name        = "${var.name}-front-door"
  description = "HTTPS from callers to the gateway of ${var.name}"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-front-door" }
}

resource "aws_vpc_security_group_ingress_rule" "callers" {
  security_group_id = aws_security_group.front_door.id
  description       = "HTTPS from callers"
  cidr_ipv4         = "0.0.0.0/0"
  from_port         = 443
  to_port           = 443
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "gateway" {
  security_group_id            = aws_security_group.front_door.id
  description                  = "The gateway's node port"
  referenced_security_group_id = aws_security_group.cluster.id
  from_port                    = var.gateway_node_port
  to_port                      = var.gateway_node_port
  ip_protocol                  = "tcp"
}

resource "aws_lb" "front_door" {
  # checkov:skip=CKV2_AWS_28:A web application firewall reads HTTP; this load balancer passes TLS through, and the gateway refuses requests.
  # checkov:skip=CKV_AWS_150:Protected from deletion unless var.disposable, which only staging is.
  name                             = var.name
  load_balancer_type               = "network"
  subnets                          = var.public_subnet_ids
  security_groups                  = [aws_security_group.front_door.id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = !var.disposable

  access_logs {
    bucket  = var.log_bucket
    prefix  = "front-door"
    enabled = true
  }
}

resource "aws_lb_target_group" "gateway" {
  # checkov:skip=CKV_AWS_378:TCP, because TLS passes through.
  name                 = "${var.name}-gateway"
  port                 = var.gateway_node_port
  protocol             = "TCP"
  vpc_id               = var.vpc_id
  deregistration_delay = 300 # seconds: as long as the longest stream may drain
  preserve_client_ip   = true

  health_check {
    protocol = "TCP"
    interval = 10
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.front_door.arn
  port              = 443
  protocol          = "TCP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.gateway.arn
  }
}

# Nodes enter and leave the target group with their scaling group; GPU nodes carry no gateway.
resource "aws_autoscaling_attachment" "gateway" {
  # checkov:skip=CKV2_AWS_15:The scaling groups are EKS's own; Kubernetes drains and replaces what is unhealthy.
  for_each = { for name, group in var.node_groups : name => group if !group.gpu }

  autoscaling_group_name = aws_eks_node_group.this[each.key].resources[0].autoscaling_groups[0].name
  lb_target_group_arn    = aws_lb_target_group.gateway.arn
}
