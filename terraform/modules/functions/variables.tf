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

variable "prefix" {
  description = "Where speech arrives in the bucket. What the function writes must lie elsewhere, or it would call itself."
  type        = string
  default     = "incoming/"

  validation {
    condition     = endswith(var.prefix, "/") && !startswith(var.prefix, "/")
    error_message = "The prefix is a folder: it ends in a slash and begins with none."
  }
}

variable "settings" {
  description = "HEARLOOP_* settings of the function; no secrets."
  type        = map(string)
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the function: those of the nodes."
  type        = list(string)
}

variable "timeout_s" {
  description = "Seconds for one file."
  type        = number
  default     = 120

  validation {
    condition     = var.timeout_s >= 1 && var.timeout_s <= 900
    error_message = "Lambda stops a function after 900 seconds."
  }
}

variable "memory_mb" {
  description = "Memory of one execution."
  type        = number
  default     = 1024
}

variable "concurrency" {
  description = "Files taken in at the same time."
  type        = number
  default     = 20

  validation {
    condition     = var.concurrency >= 1
    error_message = "With a concurrency of 0 nothing would be taken in."
  }
}

variable "log_days" {
  description = "Days for which the function's logs are kept."
  type        = number
  default     = 365
}

variable "storage_key_arn" {
  description = "ARN of the key of the audio bucket."
  type        = string
}

variable "key_arn" {
  description = "ARN of the key that encrypts settings, logs and the queue."
  type        = string
}
