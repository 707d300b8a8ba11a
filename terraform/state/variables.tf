variable "region" {
  description = "AWS region of the state."
  type        = string
  default     = "eu-central-1"
}

variable "bucket" {
  description = "Name of the bucket; unique in the world."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "A bucket's name is 3 to 63 lower-case letters, digits and hyphens."
  }
}
