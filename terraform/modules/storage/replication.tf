# A copy of what must survive a region, in the buckets of another one. Deletions are copied as well,
# so that a person who is erased here is erased there; old versions expire in both by themselves.

locals {
  # Known before anything exists, unlike the ARNs of the source's buckets.
  replica_arns = { for holds in local.replicated : holds => var.replica.bucket_arns[holds] }
}

resource "aws_iam_role" "replication" {
  count = var.replica == null ? 0 : 1

  name = "${var.global_name}-replication"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "s3.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

resource "aws_iam_role_policy" "replication" {
  count = var.replica == null ? 0 : 1

  name = "copy-to-the-other-region"
  role = aws_iam_role.replication[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "SeeWhatIsNew"
        Effect   = "Allow"
        Action   = ["s3:GetReplicationConfiguration", "s3:ListBucket"]
        Resource = [for holds in local.replicated : aws_s3_bucket.this[holds].arn]
      },
      {
        Sid      = "ReadHere"
        Effect   = "Allow"
        Action   = ["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging"]
        Resource = [for holds in local.replicated : "${aws_s3_bucket.this[holds].arn}/*"]
      },
      {
        Sid      = "WriteThere"
        Effect   = "Allow"
        Action   = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
        Resource = [for arn in local.replica_arns : "${arn}/*"]
      },
      {
        Sid      = "DecryptHere"
        Effect   = "Allow"
        Action   = ["kms:Decrypt"]
        Resource = [var.key_arn]
      },
      {
        Sid      = "EncryptThere"
        Effect   = "Allow"
        Action   = ["kms:Encrypt", "kms:GenerateDataKey"]
        Resource = [var.replica.key_arn]
      },
    ]
  })
}

resource "aws_s3_bucket_replication_configuration" "this" {
  for_each = local.replicated

  bucket     = aws_s3_bucket.this[each.key].id
  role       = aws_iam_role.replication[0].arn
  depends_on = [aws_s3_bucket_versioning.this]

  rule {
    id     = "everything"
    status = "Enabled"

    filter {}

    delete_marker_replication {
      status = "Enabled"
    }

    source_selection_criteria {
      sse_kms_encrypted_objects {
        status = "Enabled"
      }
    }

    destination {
      bucket = local.replica_arns[each.key]

      encryption_configuration {
        replica_kms_key_id = var.replica.key_arn
      }

      # Promised within 15 minutes, and measured.
      replication_time {
        status = "Enabled"

        time {
          minutes = 15
        }
      }

      metrics {
        status = "Enabled"

        event_threshold {
          minutes = 15
        }
      }
    }
  }
}
