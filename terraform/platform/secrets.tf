# What External Secrets copies into the cluster, under the same names in each region of an environment:
# passwords that Terraform does not keep, and what only the infrastructure knows.

# A database that follows another one has its password, which comes as a copy of the secret.
module "database_credentials" {
  source = "../modules/secret"
  count  = var.database_follows == null ? 1 : 0

  name        = "${var.name}/database"
  description = "Postgres of ${var.name}"
  username    = local.username
  replica     = var.database_copies_to
  key_arn     = module.platform_key.arn
  disposable  = var.disposable
}

module "kafka_credentials" {
  source = "../modules/secret"

  name        = "AmazonMSK_${var.name}" # MSK insists on the beginning
  description = "Kafka of ${var.name}"
  username    = local.username
  key_arn     = module.platform_key.arn
  disposable  = var.disposable
}

module "cache_credentials" {
  source = "../modules/secret"

  name        = "${var.name}/cache"
  description = "Feast online store of ${var.name}"
  username    = "default" # Redis's own
  key_arn     = module.platform_key.arn
  disposable  = var.disposable
}

# The one password that is in the state: ElastiCache's argument is not write-only in this provider.
data "aws_secretsmanager_secret_version" "cache" {
  secret_id = module.cache_credentials.arn
}

# What is no secret, kept beside them so that the cluster has one place to look.
resource "aws_secretsmanager_secret" "known" {
  # checkov:skip=CKV2_AWS_57:Names and addresses, which do not rotate.
  for_each = local.known

  name                    = "${var.name}/${each.key}"
  description             = "What only the infrastructure of ${var.name} knows: ${each.key}"
  kms_key_id              = module.platform_key.arn
  recovery_window_in_days = var.disposable ? 0 : 30
}

resource "aws_secretsmanager_secret_version" "known" {
  for_each = local.known

  secret_id     = aws_secretsmanager_secret.known[each.key].id
  secret_string = jsonencode(each.value)
}

# What others issue and a person puts in: the owner of the domain certificates, the identity provider
# a token.
resource "aws_secretsmanager_secret" "filled_in" {
  # checkov:skip=CKV2_AWS_57:Certificates and tokens are renewed by whoever issues them.
  for_each = {
    gateway = "What the gateway of ${var.name} shows and believes: certificate, key, partners_ca, signing_key"
    ingest  = "What the ingest function of ${var.name} shows the gateway: token, with the role transcribe"
  }

  name                    = "${var.name}/${each.key}"
  description             = each.value
  kms_key_id              = module.platform_key.arn
  recovery_window_in_days = var.disposable ? 0 : 30
}

locals {
  # A copy has the ARN of the original but for the region.
  database_secret = var.database_follows == null ? {
    name = module.database_credentials[0].name
    arn  = module.database_credentials[0].arn
    } : {
    name = var.database_follows.secret_name
    arn  = join(":", [for part, value in split(":", var.database_follows.secret_arn) : part == 3 ? local.region : value])
  }

  cache_password = jsondecode(data.aws_secretsmanager_secret_version.cache.secret_string).password

  # Settings of hearloop.config by the names of their environment variables. Empty S3 keys mean the
  # pod's own role, an empty endpoint AWS.
  s3_settings = {
    HEARLOOP_S3__REGION            = local.region
    HEARLOOP_S3__ENDPOINT_URL      = ""
    HEARLOOP_S3__ACCESS_KEY_ID     = ""
    HEARLOOP_S3__SECRET_ACCESS_KEY = ""
  }

  settings = merge(
    local.s3_settings,
    {
      HEARLOOP_KAFKA__SECURITY_PROTOCOL = module.events.security_protocol
      HEARLOOP_KAFKA__SASL_MECHANISM    = module.events.sasl_mechanism
      HEARLOOP_KAFKA__BOOTSTRAP_SERVERS = module.events.bootstrap_servers
    },
    { for holds, name in module.storage.bucket_names : "HEARLOOP_BUCKETS__${upper(holds)}" => name },
  )

  known = {
    settings = local.settings
    endpoints = {
      database_host = module.database.host
      database_port = tostring(module.database.port)
      cache_host    = module.cache.host
      cache_port    = tostring(module.cache.port)
    }
  }

  secret_arns = merge(
    {
      database = local.database_secret.arn
      kafka    = module.kafka_credentials.arn
      cache    = module.cache_credentials.arn
      gateway  = aws_secretsmanager_secret.filled_in["gateway"].arn
    },
    { for key, secret in aws_secretsmanager_secret.known : key => secret.arn },
  )
}
