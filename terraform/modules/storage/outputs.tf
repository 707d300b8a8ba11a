output "bucket_names" {
  description = "Names of the buckets by what they hold: the values of HEARLOOP_BUCKETS__AUDIO and so on."
  value       = { for holds, bucket in aws_s3_bucket.this : holds => bucket.id }
}

output "bucket_arns" {
  description = "ARNs of the buckets by what they hold, for the policies of those who use them."
  value       = { for holds, bucket in aws_s3_bucket.this : holds => bucket.arn }
}

output "log_bucket" {
  description = "The bucket for access logs, once it lets them in."
  value       = aws_s3_bucket_policy.logs.id
}
