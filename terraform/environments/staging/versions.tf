terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # Bucket and table are given at `terraform init -backend-config=…`: they belong to an account.
  backend "s3" {
    key     = "hearloop/staging/terraform.tfstate"
    encrypt = true
  }
}
