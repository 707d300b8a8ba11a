variable "global_name" {
  description = "What the names of the roles begin with: another one in each region of an account."
  type        = string
}

variable "namespace" {
  description = "Kubernetes namespace of Hearloop's own service accounts."
  type        = string
}

variable "cluster_name" {
  description = "Name of the cluster whose nodes the autoscaler resizes."
  type        = string
}

variable "region" {
  description = "Region of the cluster."
  type        = string
}

variable "account_id" {
  description = "Account of the cluster."
  type        = string
}

variable "identity_provider" {
  description = "ARN and issuer of the cluster's identity provider."
  type        = object({ arn = string, issuer = string })
}

variable "bucket_arns" {
  description = "ARNs of the buckets by what they hold."
  type        = map(string)

  validation {
    condition     = toset(keys(var.bucket_arns)) == toset(["audio", "snapshots", "artifacts", "events"])
    error_message = "Give the ARNs of audio, snapshots, artifacts and events."
  }
}

variable "storage_key_arn" {
  description = "ARN of the key of the buckets."
  type        = string
}

variable "secret_arns" {
  description = "Secrets that External Secrets copies into the cluster."
  type        = list(string)
}

variable "secrets_key_arn" {
  description = "ARN of the key of the secrets."
  type        = string
}
