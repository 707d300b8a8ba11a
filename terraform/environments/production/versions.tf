terraform {
  required_version = "~> 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # Bucket and region are given at `terraform init -backend-config=…`: they belong to an account. See
  # terraform/state. The lock is a file beside the state.
  backend "s3" {
    key          = "hearloop/production/terraform.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}
