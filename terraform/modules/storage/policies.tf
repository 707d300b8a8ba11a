# What every bucket refuses, whoever asks.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  refuse = {
    for holds, bucket in merge(aws_s3_bucket.this, { logs = aws_s3_bucket.logs }) : holds => [
      {
        Sid       = "OnlyOverTls"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "s3:*"
        Resource  = [bucket.arn, "${bucket.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "OnlyFromTls12"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "s3:*"
        Resource  = [bucket.arn, "${bucket.arn}/*"]
        Condition = { NumericLessThan = { "s3:TlsVersion" = "1.2" } }
      },
    ]
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = local.holds

  bucket     = aws_s3_bucket.this[each.key].id
  depends_on = [aws_s3_bucket_public_access_block.this]

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(local.refuse[each.key], [
      {
        # A writer that says nothing gets the bucket's key; one that names another is refused.
        Sid       = "OnlyOurKey"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "s3:PutObject"
        Resource  = "${aws_s3_bucket.this[each.key].arn}/*"
        Condition = { StringNotEqualsIfExists = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = var.key_arn } }
      },
    ])
  })
}
