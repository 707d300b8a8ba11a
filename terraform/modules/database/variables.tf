variable "name" {
  description = "Name of the server."
  type        = string
}

variable "global_name" {
  description = "What the names of IAM roles begin with: another one in each region of an account."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets without a way out."
  type        = list(string)
}

variable "client_security_group_id" {
  description = "The group that is let in."
  type        = string
}

variable "engine_version" {
  description = "Version of Postgres."
  type        = string
  default     = "16.8"

  validation {
    condition     = can(regex("^1[6-9]\\.[0-9]+$", var.engine_version))
    error_message = "Postgres 16 or newer, with its minor version, as in 16.8."
  }
}

variable "instance_class" {
  description = "Size of the server."
  type        = string

  validation {
    condition     = startswith(var.instance_class, "db.")
    error_message = "The class of an RDS instance begins with db., as in db.t4g.medium."
  }
}

variable "multi_az" {
  description = "Whether a standby in another zone takes over by itself."
  type        = bool
}

variable "backup_days" {
  description = "Days that the server can be wound back."
  type        = number

  validation {
    condition     = var.backup_days >= 1 && var.backup_days <= 35
    error_message = "RDS keeps backups for 1 to 35 days; none at all is not an option."
  }
}

variable "replicate_from" {
  description = "ARN of a server in another region that this one follows; null makes a server of its own, and turns a follower into one."
  type        = string
  default     = null
}

variable "username" {
  description = "The first user."
  type        = string
}

variable "password" {
  description = "Its password; written, never kept. A follower takes that of the server it follows."
  type        = string
  default     = null
  ephemeral   = true
  sensitive   = true
}

variable "password_generation" {
  description = "Counted up when the password changes."
  type        = number
  default     = null
}

variable "key_arn" {
  description = "ARN of the key that encrypts storage, backups, insights and logs."
  type        = string
}

variable "disposable" {
  description = "Whether the server may be destroyed, without a last snapshot."
  type        = bool
}
