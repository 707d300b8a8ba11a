# A user name and a password that Terraform invents, writes to Secrets Manager and forgets: it is in
# neither the plan nor the state. The module that creates the user reads it back from there.

resource "aws_secretsmanager_secret" "this" {
  # checkov:skip=CKV2_AWS_57:The services that take these passwords need a restart to take another; docs/operate describes the rotation by hand, with `generation`.
  name                    = var.name
  description             = var.description
  kms_key_id              = var.key_arn
  recovery_window_in_days = var.disposable ? 0 : 30

  # The same secret in the region that takes over, where it opens the copy of what this one opens.
  dynamic "replica" {
    for_each = var.replica == null ? [] : [var.replica]

    content {
      region     = replica.value.region
      kms_key_id = replica.value.key_arn
    }
  }
}

ephemeral "aws_secretsmanager_random_password" "this" {
  password_length     = 40
  exclude_punctuation = true # the password becomes part of a URL
}

resource "aws_secretsmanager_secret_version" "this" {
  secret_id                = aws_secretsmanager_secret.this.id
  secret_string_wo_version = var.generation
  secret_string_wo = jsonencode({
    username = var.username
    password = ephemeral.aws_secretsmanager_random_password.this.random_password
  })
}

# Read back, not passed on: an apply that failed half-way and runs again finds the password that it
# wrote the first time.
ephemeral "aws_secretsmanager_secret_version" "this" {
  secret_id = aws_secretsmanager_secret_version.this.secret_id
}
