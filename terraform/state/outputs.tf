output "backend" {
  description = "For `terraform init -backend-config=…` of an environment."
  value       = { bucket = aws_s3_bucket.this.id, region = var.region, kms_key_id = module.key.arn }
}
