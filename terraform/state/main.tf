# The bucket that keeps the state of the environments. Applied once for an account, before anything
# else, with its own state on the disk of whoever does it: `terraform import` finds it again.

provider "aws" {
  region = var.region

  default_tags {
    tags = { Project = "hearloop", ManagedBy = "terraform" }
  }
}

module "key" {
  source = "../modules/key"

  name        = "${var.bucket}-state"
  description = "Terraform's state, which names everything and holds one password"
}

resource "aws_s3_bucket" "this" {
  # checkov:skip=CKV_AWS_18:Who reads the state is in CloudTrail, which every account has; a bucket for its access logs would come before the platform's.
  # checkov:skip=CKV_AWS_144:The state describes regions that are lost together with it or not at all; versions bring back what was overwritten.
  # checkov:skip=CKV2_AWS_62:Nothing listens for a new state.
  # checkov:skip=CKV2_AWS_61:Old states are kept: they are small, and say what was there when.
  bucket = var.bucket

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = module.key.arn
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_policy" "this" {
  bucket     = aws_s3_bucket.this.id
  depends_on = [aws_s3_bucket_public_access_block.this]

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyOverTls"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}
