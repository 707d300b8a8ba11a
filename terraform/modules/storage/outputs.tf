output "bucket_names" {
  description = "Names of the buckets by what they hold: the values of HEARLOOP_BUCKETS__AUDIO and so on."
  value       = { for holds, bucket in aws_s3_bucket.this : holds => bucket.id }
}

output "bucket_arns" {
  description = "ARNs of the buckets by what they hold, for the policies of those who use them."
  value       = { for holds, bucket in aws_s3_bucket.this : holds => bucket.arn }
}

output "kms_key_arn" {
  description = "ARN of the key; whoever reads or writes objects needs kms:Decrypt and kms:GenerateDataKey on it."
  value       = aws_kms_key.storage.arn
}
