# The ingest function: speech that arrives under incoming/ in the audio bucket is transcribed by the
# model server behind the front door, through the handler in serving/functions. What fails three
# times waits in a queue for a person.

data "aws_partition" "current" {}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/lambda/${local.name}" # Lambda writes here and nowhere else
  retention_in_days = 365
  kms_key_id        = var.key_arn
}

locals {
  name = "${var.name}-ingest"

  # What the function writes lies elsewhere, or it would call itself.
  prefix = "incoming/"
}

resource "aws_sqs_queue" "failed" {
  name                      = "${local.name}-failed"
  message_retention_seconds = 14 * 24 * 3600
  kms_master_key_id         = var.key_arn
}

resource "aws_security_group" "this" {
  name        = local.name
  description = "The ingest function: HTTPS out, nothing in"
  vpc_id      = var.vpc_id

  egress {
    description = "The front door, and services of AWS"
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_lambda_function" "this" {
  # checkov:skip=CKV_AWS_272:Code signing is for zip files; this is an image, pinned by a tag that cannot move.
  function_name = local.name
  description   = "Transcribes what arrives under ${local.prefix} in ${var.bucket_name}"
  role          = aws_iam_role.this.arn
  package_type  = "Image"
  image_uri     = var.image_uri
  timeout       = 120  # seconds for one file; the handler waits 100 for the server
  memory_size   = 1024 # MB: eight times the largest file
  kms_key_arn   = var.key_arn

  # A flood of uploads waits; it does not take the account's concurrency from anything else.
  reserved_concurrent_executions = 20

  environment {
    variables = merge(var.settings, { HEARLOOP_SERVING_TOKEN_SECRET = var.token_secret_arn })
  }

  vpc_config {
    subnet_ids         = var.subnet_ids
    security_group_ids = [aws_security_group.this.id]
  }

  dead_letter_config {
    target_arn = aws_sqs_queue.failed.arn
  }

  tracing_config {
    mode = "Active"
  }

  depends_on = [aws_cloudwatch_log_group.this, aws_iam_role_policy.this]
}

resource "aws_lambda_permission" "bucket" {
  statement_id   = "FromTheAudioBucket"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.this.function_name
  principal      = "s3.amazonaws.com"
  source_arn     = var.bucket_arn
  source_account = var.account_id
}

resource "aws_s3_bucket_notification" "this" {
  bucket = var.bucket_name

  lambda_function {
    lambda_function_arn = aws_lambda_function.this.arn
    events              = ["s3:ObjectCreated:*"]
    filter_prefix       = local.prefix
  }

  depends_on = [aws_lambda_permission.bucket]
}

# --- what it may do

resource "aws_iam_role" "this" {
  name = "${var.global_name}-ingest"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

# The right to a network interface in the VPC; AWS offers no narrower policy.
resource "aws_iam_role_policy_attachment" "network" {
  role       = aws_iam_role.this.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AWSLambdaENIManagementAccess"
}

resource "aws_iam_role_policy" "this" {
  name = "ingest"
  role = aws_iam_role.this.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # And what an earlier delivery of the same event has made of it.
        Sid      = "ReadWhatArrived"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = ["${var.bucket_arn}/${local.prefix}*", "${var.bucket_arn}/transcripts/*"]
      },
      {
        Sid      = "WriteWhatItBecame"
        Effect   = "Allow"
        Action   = ["s3:PutObject"]
        Resource = ["${var.bucket_arn}/transcripts/*", "${var.bucket_arn}/quarantine/*"]
      },
      {
        # A good recording takes the place of a bad one of the same name.
        Sid      = "TakeBackAQuarantine"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject"]
        Resource = "${var.bucket_arn}/quarantine/*"
      },
      {
        Sid      = "ListTheBucket"
        Effect   = "Allow"
        Action   = ["s3:ListBucket"]
        Resource = var.bucket_arn
      },
      {
        Sid      = "ReadItsToken"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue"]
        Resource = var.token_secret_arn
      },
      {
        Sid      = "OpenTheKeys"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = [var.storage_key_arn, var.key_arn]
      },
      {
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.this.arn}:*"
      },
      {
        Sid      = "SetFailuresAside"
        Effect   = "Allow"
        Action   = ["sqs:SendMessage"]
        Resource = aws_sqs_queue.failed.arn
      },
      {
        # Neither takes a resource.
        Sid      = "Trace"
        Effect   = "Allow"
        Action   = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
        Resource = "*"
      },
    ]
  })
}
