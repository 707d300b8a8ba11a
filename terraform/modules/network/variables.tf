variable "name" {
  description = "What the names of resources begin with."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,38}[a-z0-9]$", var.name))
    error_message = "The name is 3 to 40 lower-case letters, digits and hyphens."
  }
}

variable "global_name" {
  description = "What the names of IAM roles begin with: another one in each region of an account."
  type        = string
}

variable "cidr" {
  description = "Addresses of the VPC, a /16; regions that may be peered one day must not overlap."
  type        = string

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/16")
    error_message = "The network is a /16 such as 10.20.0.0/16."
  }
}

variable "zones" {
  description = "Number of availability zones."
  type        = number

  validation {
    condition     = contains([2, 3], var.zones)
    error_message = "Two zones (the least that EKS, RDS and MSK take) or three."
  }
}

variable "nat_per_zone" {
  description = "A NAT gateway in each zone, so that losing a zone cuts off no other; or one for all, for a third of the cost."
  type        = bool
}

variable "key_arn" {
  description = "ARN of the key that encrypts the flow logs."
  type        = string
}
