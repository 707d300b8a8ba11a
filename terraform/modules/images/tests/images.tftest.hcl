mock_provider "aws" {
  source = "../../tests"
}

variables {
  key_arn    = "arn:aws:kms:eu-central-1:123456789012:key/platform"
  disposable = false
}

run "tags_do_not_move_and_images_are_scanned" {
  assert {
    condition = alltrue([
      for repository in aws_ecr_repository.this :
      repository.image_tag_mutability == "IMMUTABLE" && repository.image_scanning_configuration[0].scan_on_push &&
      repository.encryption_configuration[0].kms_key == var.key_arn && !repository.force_delete
    ])
    error_message = "Images cannot be replaced, are scanned and encrypted, and are not deleted by accident."
  }

  assert {
    condition     = one(aws_ecr_registry_scanning_configuration.this.rule).scan_frequency == "CONTINUOUS_SCAN"
    error_message = "A vulnerability that becomes known later is found too."
  }

  assert {
    condition     = length(aws_ecr_replication_configuration.this) == 0
    error_message = "One region copies nowhere."
  }
}

run "images_are_copied_to_the_region_that_takes_over" {
  variables {
    replica_region = "eu-west-1"
  }

  assert {
    condition     = aws_ecr_replication_configuration.this[0].replication_configuration[0].rule[0].destination[0].region == "eu-west-1"
    error_message = "The other region has the images when the first is gone."
  }
}

run "a_name_with_its_prefix_is_refused" {
  command = plan

  variables {
    repositories = ["hearloop/serving"]
  }

  expect_failures = [var.repositories]
}
