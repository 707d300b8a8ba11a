# Names that callers use. `api`, and `partners` for machines with client certificates, are answered by
# the nearest region that is healthy; `corrections`, which writes, by the primary region and, when that
# is down, by the standby.

resource "aws_route53_zone" "this" {
  # checkov:skip=CKV2_AWS_38:DNSSEC needs a DS record in the parent zone, which belongs to whoever owns the domain; callers are authenticated by TLS and a token, not by DNS.
  name    = var.domain
  comment = "Hearloop"
}

# --- each region under a name of its own, watched from outside

resource "aws_route53_record" "region" {
  # checkov:skip=CKV2_AWS_23:The load balancer is in the cluster module of its region.
  for_each = var.regions

  zone_id = aws_route53_zone.this.zone_id
  name    = "${each.key}.${var.domain}"
  type    = "A"

  alias {
    name                   = each.value.hostname
    zone_id                = each.value.zone_id
    evaluate_target_health = false
  }
}

# Out after half a minute of failures, seen from several continents.
resource "aws_route53_health_check" "region" {
  for_each = var.regions

  type              = "HTTPS"
  fqdn              = aws_route53_record.region[each.key].fqdn
  port              = 443
  resource_path     = var.health_path
  request_interval  = 10 # seconds
  failure_threshold = 3
  enable_sni        = true
  measure_latency   = true

  tags = { Name = "${var.name}-${each.key}" }
}

# --- recognition: the nearest healthy region

locals {
  recognising = ["api.${var.domain}", "partners.${var.domain}"]

  nearest = {
    for pair in setproduct(local.recognising, keys(var.regions)) :
    join("/", pair) => { host = pair[0], region = pair[1] }
  }
}

resource "aws_route53_record" "nearest" {
  # checkov:skip=CKV2_AWS_23:The load balancer is in the cluster module of its region.
  for_each = local.nearest

  zone_id         = aws_route53_zone.this.zone_id
  name            = each.value.host
  type            = "A"
  set_identifier  = each.value.region
  health_check_id = aws_route53_health_check.region[each.value.region].id

  latency_routing_policy {
    region = each.value.region
  }

  alias {
    name                   = var.regions[each.value.region].hostname
    zone_id                = var.regions[each.value.region].zone_id
    evaluate_target_health = true
  }
}

# --- corrections: where the database can be written

resource "aws_route53_record" "corrections" {
  # checkov:skip=CKV2_AWS_23:The load balancer is in the cluster module of its region.
  for_each = var.regions

  zone_id         = aws_route53_zone.this.zone_id
  name            = "corrections.${var.domain}"
  type            = "A"
  set_identifier  = each.key
  health_check_id = aws_route53_health_check.region[each.key].id

  failover_routing_policy {
    type = each.key == var.primary_region ? "PRIMARY" : "SECONDARY"
  }

  alias {
    name                   = each.value.hostname
    zone_id                = each.value.zone_id
    evaluate_target_health = true
  }
}

# --- who asked for what; Route 53 logs queries in us-east-1 alone

data "aws_caller_identity" "current" {}

module "key" {
  source = "../key"

  providers = { aws = aws.us_east_1 }

  name          = "${var.name}-dns"
  description   = "The DNS query log of ${var.domain}"
  services      = ["logs.us-east-1.amazonaws.com"]
  deletion_days = 7
}

resource "aws_cloudwatch_log_group" "queries" {
  provider = aws.us_east_1

  name              = "/aws/route53/${var.domain}"
  retention_in_days = 365
  kms_key_id        = module.key.arn
}

resource "aws_cloudwatch_log_resource_policy" "queries" {
  provider = aws.us_east_1

  policy_name = "${var.name}-dns"

  policy_document = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "QueriesOfThisZone"
      Effect    = "Allow"
      Principal = { Service = "route53.amazonaws.com" }
      Action    = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource  = "${aws_cloudwatch_log_group.queries.arn}:*"
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

resource "aws_route53_query_log" "this" {
  zone_id                  = aws_route53_zone.this.zone_id
  cloudwatch_log_group_arn = aws_cloudwatch_log_group.queries.arn
  depends_on               = [aws_cloudwatch_log_resource_policy.queries]
}
