# The four buckets of hearloop.config.Buckets and one for access logs. What differs between the four
# is how long things are kept; everything that protects them is the same.

locals {
  holds = toset(["audio", "snapshots", "artifacts", "events"])

  # Events are the local broker's own files: MSK keeps its log itself, so that there is nothing to copy.
  replicated = var.replica == null ? toset([]) : toset(["audio", "snapshots", "artifacts"])
}

resource "aws_s3_bucket" "this" {
  # checkov:skip=CKV2_AWS_62:Only audio tells anybody what arrives, in the functions module; nothing listens to the others.
  # checkov:skip=CKV_AWS_144:Production copies what must survive a region to its other one (var.replica); staging has one region.
  for_each = local.holds

  bucket        = "${var.global_name}-${each.key}"
  force_destroy = var.disposable # otherwise S3 refuses to delete a bucket that holds anything

  tags = { Holds = each.key }
}

# --- closed to the public

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.holds

  bucket                  = aws_s3_bucket.this[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.holds

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced" # ACLs are off: policies alone decide
  }
}

# --- encrypted

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.holds

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    bucket_key_enabled = true # one KMS call for many objects, not one for each

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = var.key_arn
    }
  }
}

# --- versions, and how long things are kept

resource "aws_s3_bucket_versioning" "this" {
  for_each = local.holds

  bucket = aws_s3_bucket.this[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = local.holds

  bucket     = aws_s3_bucket.this[each.key].id
  depends_on = [aws_s3_bucket_versioning.this]

  # An erased person's audio is gone for good when its old versions are: this bounds it.
  rule {
    id     = "old-versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.old_version_days[each.key]
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  # Expiry removes delete markers that hide nothing, too; S3 takes only one of the two.
  rule {
    id     = "retention"
    status = "Enabled"

    filter {}

    expiration {
      days                         = var.retention_days[each.key]
      expired_object_delete_marker = var.retention_days[each.key] == null ? true : null
    }
  }

  # What is read often stays where it is; the rest moves to cheaper storage by itself.
  rule {
    id     = "cold"
    status = "Enabled"

    filter {} # S3 leaves objects of less than 128 KB where they are

    transition {
      days          = 30
      storage_class = "INTELLIGENT_TIERING"
    }
  }
}

# --- who read what

resource "aws_s3_bucket_logging" "this" {
  for_each = local.holds

  bucket        = aws_s3_bucket.this[each.key].id
  target_bucket = aws_s3_bucket.logs.id
  target_prefix = "${each.key}/"

  depends_on = [aws_s3_bucket_policy.logs]
}

# Request metrics, for the alarms.
resource "aws_s3_bucket_metric" "this" {
  for_each = local.holds

  bucket = aws_s3_bucket.this[each.key].id
  name   = "all"
}
