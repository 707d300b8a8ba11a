# Staging: one small region that may be thrown away. Sizes are the smallest that run the platform.

provider "aws" {
  region = var.region

  default_tags {
    tags = { Project = "hearloop", Environment = "hearloop-staging", ManagedBy = "terraform" }
  }
}

# DNS queries are logged there and nowhere else.
provider "aws" {
  alias  = "us_east_1"
  region = "us-east-1"

  default_tags {
    tags = { Project = "hearloop", Environment = "hearloop-staging", ManagedBy = "terraform" }
  }
}

module "platform" {
  source = "../../platform"

  name        = "hearloop-staging"
  global_name = var.global_name
  domain      = var.domain
  disposable  = true
  release     = var.release

  cidr            = "10.20.0.0/16"
  api_cidrs       = var.api_cidrs
  admin_role_arns = var.admin_role_arns
  alarm_emails    = var.alarm_emails
  budget_usd      = 1500

  size = {
    zones            = 2
    nat_per_zone     = false
    old_version_days = { audio = 7, snapshots = 7, artifacts = 30, events = 7 }
    database         = { instance_class = "db.t4g.medium", multi_az = false, backup_days = 7 }
    broker_type      = "kafka.t3.small"
    cache            = { node_type = "cache.t4g.small", nodes = 1 }

    node_groups = {
      cpu = { instance_types = ["m7i.xlarge"], least = 3, most = 6 }
      gpu = { instance_types = ["g5.xlarge", "g4dn.xlarge"], least = 0, most = 1, disk_gb = 100, gpu = true, spot = true }
    }
  }
}

module "edge" {
  source    = "../../modules/edge"
  providers = { aws = aws, aws.us_east_1 = aws.us_east_1 }

  name           = "hearloop-staging"
  domain         = var.domain
  regions        = { (var.region) = module.platform.front_door }
  primary_region = var.region
}
