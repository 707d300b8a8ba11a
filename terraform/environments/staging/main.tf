provider "aws" {
  region = var.region

  default_tags {
    tags = {
      Project     = "hearloop"
      Environment = "staging"
      ManagedBy   = "terraform"
    }
  }
}

module "storage" {
  source = "../../modules/storage"

  prefix            = var.prefix
  key_deletion_days = 7 # staging holds no speech that cannot be spoken again

  old_version_days = {
    audio     = 7
    snapshots = 30
    artifacts = 30
    events    = 7
  }
}
