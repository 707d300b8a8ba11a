# One region of Hearloop. Environments say what differs; what is the same everywhere is said here.
# Read it from top to bottom: keys, network, cluster, what holds data, who may do what, what watches.

data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

locals {
  region     = data.aws_region.current.name
  account_id = data.aws_caller_identity.current.account_id

  following = try(!var.database_follows.promoted, false)

  # The user of Postgres and of Kafka that the platform's pods are.
  username = "hearloop"

  # Kubernetes namespace of Hearloop's own pods.
  namespace = "hearloop"
}

# --- keys: one for speech, one for everything else

module "speech_key" {
  source = "../modules/key"

  name          = "${var.name}-speech"
  description   = "Audio, snapshots, artifacts and events of ${var.name}"
  deletion_days = var.disposable ? 7 : 30
}

module "platform_key" {
  source = "../modules/key"

  name          = "${var.name}-platform"
  description   = "Databases, brokers, caches, secrets, images, logs and alarms of ${var.name}"
  deletion_days = var.disposable ? 7 : 30

  services = [
    "logs.${local.region}.amazonaws.com",
    "cloudwatch.amazonaws.com", # alarms that are published to the encrypted topic
    "budgets.amazonaws.com",
  ]
}

# --- network and cluster

module "network" {
  source = "../modules/network"

  name         = var.name
  global_name  = var.global_name
  cidr         = var.cidr
  zones        = var.size.zones
  nat_per_zone = var.size.nat_per_zone
  key_arn      = module.platform_key.arn
}

module "cluster" {
  source = "../modules/cluster"

  name              = var.name
  global_name       = var.global_name
  vpc_id            = module.network.vpc_id
  vpc_cidr          = module.network.cidr
  public_subnet_ids = module.network.public_subnet_ids
  node_subnet_ids   = module.network.node_subnet_ids
  api_cidrs         = var.api_cidrs
  admin_role_arns   = var.admin_role_arns
  node_groups       = var.size.node_groups
  log_bucket        = module.storage.log_bucket
  key_arn           = module.platform_key.arn
  disposable        = var.disposable
}

# --- what holds data

module "storage" {
  source = "../modules/storage"

  global_name      = var.global_name
  key_arn          = module.speech_key.arn
  old_version_days = var.size.old_version_days
  replica          = var.storage_replica
  disposable       = var.disposable
}

module "database" {
  source = "../modules/database"

  name                     = var.name
  global_name              = var.global_name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.data_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  instance_class           = var.size.database.instance_class
  multi_az                 = var.size.database.multi_az
  backup_days              = var.size.database.backup_days
  replicate_from           = local.following ? var.database_follows.arn : null
  username                 = local.username
  password                 = one(module.database_credentials[*].password)
  password_generation      = one(module.database_credentials[*].generation)
  key_arn                  = module.platform_key.arn
  disposable               = var.disposable
}

module "events" {
  source = "../modules/events"

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.data_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  brokers                  = var.size.zones
  instance_type            = var.size.broker_type
  credentials_secret_arn   = module.kafka_credentials.arn
  key_arn                  = module.platform_key.arn
}

module "cache" {
  source = "../modules/cache"

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.data_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  node_type                = var.size.cache.node_type
  nodes                    = var.size.cache.nodes
  password                 = local.cache_password
  key_arn                  = module.platform_key.arn
}

module "images" {
  source = "../modules/images"

  replica_region = var.image_replica_region
  key_arn        = module.platform_key.arn
  disposable     = var.disposable
}

# --- who may do what

module "workloads" {
  source = "../modules/workloads"

  global_name       = var.global_name
  namespace         = local.namespace
  cluster_name      = module.cluster.name
  region            = local.region
  account_id        = local.account_id
  identity_provider = module.cluster.identity_provider
  bucket_arns       = module.storage.bucket_arns
  storage_key_arn   = module.speech_key.arn
  secret_arns       = values(local.secret_arns)
  secrets_key_arn   = module.platform_key.arn
}

# --- speech that arrives as files

# Not before its image has been pushed, and not where another region's uploads are copied to: S3 calls
# it for copies too, and each file would be transcribed twice.
module "functions" {
  source = "../modules/functions"
  count  = var.release == null || local.following ? 0 : 1

  name            = var.name
  global_name     = var.global_name
  account_id      = local.account_id
  image_uri       = "${module.images.repository_urls["functions"]}:${var.release}"
  bucket_name     = module.storage.bucket_names["audio"]
  bucket_arn      = module.storage.bucket_arns["audio"]
  vpc_id          = module.network.vpc_id
  subnet_ids      = module.network.node_subnet_ids
  storage_key_arn = module.speech_key.arn
  key_arn         = module.platform_key.arn

  token_secret_arn = aws_secretsmanager_secret.filled_in["ingest"].arn
  settings         = merge(local.s3_settings, { HEARLOOP_SERVING_URL = "https://api.${var.domain}" })
}
