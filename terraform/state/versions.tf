terraform {
  required_version = "~> 1.11" # S3's own lock file and write-only arguments came with 1.11

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}
