# Production: two regions. Both recognise speech; the primary's database is written to, and what must
# survive a region (speech, models, images, the database with its password) is copied to the standby.

locals {
  tags = { Project = "hearloop", Environment = "hearloop-production", ManagedBy = "terraform" }

  # Both regions are alike, so that either can carry everything.
  size = {
    zones            = 3
    nat_per_zone     = true
    old_version_days = { audio = 30, snapshots = 30, artifacts = 90, events = 7 }
    database         = { instance_class = "db.m7g.large", multi_az = true, backup_days = 35 }
    broker_type      = "kafka.m7g.large"
    cache            = { node_type = "cache.m7g.large", nodes = 2 }

    node_groups = {
      cpu = { instance_types = ["m7i.2xlarge"], least = 3, most = 20 }
      gpu = { instance_types = ["g5.2xlarge"], least = 0, most = 4, disk_gb = 200, gpu = true }
    }
  }
}

provider "aws" {
  region = var.primary_region

  default_tags {
    tags = local.tags
  }
}

provider "aws" {
  alias  = "standby"
  region = var.standby_region

  default_tags {
    tags = local.tags
  }
}

# DNS queries are logged there and nowhere else.
provider "aws" {
  alias  = "us_east_1"
  region = "us-east-1"

  default_tags {
    tags = local.tags
  }
}

module "primary" {
  source = "../../platform"

  name            = "hearloop-production"
  global_name     = var.global_name
  domain          = var.domain
  disposable      = var.disposable
  release         = var.release
  cidr            = "10.30.0.0/16"
  api_cidrs       = var.api_cidrs
  admin_role_arns = var.admin_role_arns
  alarm_emails    = var.alarm_emails
  size            = local.size

  budget_usd           = 20000 # for both regions: it counts by tag
  image_replica_region = var.standby_region
  storage_replica      = { bucket_arns = module.standby.bucket_arns, key_arn = module.standby.speech_key_arn }
  database_copies_to   = { region = var.standby_region, key_arn = module.standby.platform_key_arn }
}

module "standby" {
  source    = "../../platform"
  providers = { aws = aws.standby }

  name            = "hearloop-production"
  global_name     = "${var.global_name}-standby"
  domain          = var.domain
  disposable      = var.disposable
  release         = var.release
  cidr            = "10.40.0.0/16"
  api_cidrs       = var.api_cidrs
  admin_role_arns = var.admin_role_arns
  alarm_emails    = var.alarm_emails
  size            = local.size

  database_follows = {
    arn         = module.primary.database_arn
    secret_name = module.primary.database_secret.name
    secret_arn  = module.primary.database_secret.arn
    promoted    = var.standby_promoted
  }
}

module "edge" {
  source    = "../../modules/edge"
  providers = { aws = aws, aws.us_east_1 = aws.us_east_1 }

  name           = "hearloop-production"
  domain         = var.domain
  primary_region = var.standby_promoted ? var.standby_region : var.primary_region

  regions = {
    (var.primary_region) = module.primary.front_door
    (var.standby_region) = module.standby.front_door
  }
}
