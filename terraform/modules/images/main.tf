# Where the images of the Dockerfiles are pushed: tags that cannot be moved, scanned when they arrive
# and again when a new vulnerability is known, and copied to the region that fails over.

resource "aws_ecr_repository" "this" {
  for_each = var.repositories

  name                 = "hearloop/${each.key}"
  image_tag_mutability = "IMMUTABLE"
  force_delete         = var.disposable

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = var.key_arn
  }

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  for_each = aws_ecr_repository.this

  repository = each.value.name

  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "What a push of the same content left behind"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 14 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "As many releases as a rollback may want"
        selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 50 }
        action       = { type = "expire" }
      },
    ]
  })
}

resource "aws_ecr_registry_scanning_configuration" "this" {
  scan_type = "ENHANCED"

  rule {
    scan_frequency = "CONTINUOUS_SCAN"

    repository_filter {
      filter      = "hearloop/*"
      filter_type = "WILDCARD"
    }
  }
}

# A copy keeps the settings of a repository that exists there already: the other region makes its own.
resource "aws_ecr_replication_configuration" "this" {
  count = var.replica_region == null ? 0 : 1

  replication_configuration {
    rule {
      destination {
        region      = var.replica_region
        registry_id = values(aws_ecr_repository.this)[0].registry_id
      }

      repository_filter {
        filter      = "hearloop/"
        filter_type = "PREFIX_MATCH"
      }
    }
  }
}
