variable "name" {
  description = "Name of the secret; MSK insists on one that begins with AmazonMSK_."
  type        = string
}

variable "description" {
  description = "Whose user name and password these are."
  type        = string
}

variable "username" {
  description = "The user name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9_]{1,31}$", var.username))
    error_message = "A user name is 2 to 32 lower-case letters, digits and underscores, and begins with a letter."
  }
}

variable "key_arn" {
  description = "ARN of the key that encrypts the secret."
  type        = string
}

variable "replica" {
  description = "Region that has a copy, and its key there; null makes none."
  type        = object({ region = string, key_arn = string })
  default     = null
}

variable "generation" {
  description = "Counted up to replace the password."
  type        = number
  default     = 1
}

variable "disposable" {
  description = "Whether a deleted secret is gone at once, not after 30 days."
  type        = bool
}
