variable "name" {
  description = "What the names of resources begin with."
  type        = string
}

variable "global_name" {
  description = "What the names of IAM roles begin with: another one in each region of an account."
  type        = string
}

variable "account_id" {
  description = "The account, whose bucket alone may call the function."
  type        = string
}

variable "image_uri" {
  description = "Image of the function, with its tag or digest."
  type        = string

  validation {
    condition     = can(regex("(:[^/]+|@sha256:[0-9a-f]{64})$", var.image_uri)) && !endswith(var.image_uri, ":latest")
    error_message = "The image is pinned by a tag other than latest, or by its digest."
  }
}

variable "bucket_name" {
  description = "The audio bucket."
  type        = string
}

variable "bucket_arn" {
  description = "ARN of the audio bucket."
  type        = string
}

variable "settings" {
  description = "HEARLOOP_* settings of the function: S3, and where the model server is; no secrets."
  type        = map(string)

  validation {
    condition     = startswith(lookup(var.settings, "HEARLOOP_SERVING_URL", ""), "https://")
    error_message = "HEARLOOP_SERVING_URL is the front door, over https."
  }
}

variable "token_secret_arn" {
  description = "Secret with the token that the model server asks for, in the field `token`: read by the function, never by Terraform."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the function: those of the nodes."
  type        = list(string)
}

variable "storage_key_arn" {
  description = "ARN of the key of the audio bucket."
  type        = string
}

variable "key_arn" {
  description = "ARN of the key that encrypts settings, logs and the queue."
  type        = string
}
