variable "name" {
  description = "Name of the cache."
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

variable "node_type" {
  description = "Size of a node."
  type        = string

  validation {
    condition     = startswith(var.node_type, "cache.")
    error_message = "The type of a node begins with cache., as in cache.t4g.small."
  }
}

variable "nodes" {
  description = "One, or more with automatic failover between zones."
  type        = number

  validation {
    condition     = var.nodes >= 1 && var.nodes <= 6
    error_message = "One node and up to five that follow it."
  }
}

variable "password" {
  description = "What clients authenticate with. The provider has no write-only argument for it: it is in the state, which is encrypted."
  type        = string
  sensitive   = true

  validation {
    condition     = length(var.password) >= 16 && length(var.password) <= 128
    error_message = "ElastiCache takes passwords of 16 to 128 characters."
  }
}

variable "key_arn" {
  description = "ARN of the key that encrypts the cache, its snapshots and its logs."
  type        = string
}
