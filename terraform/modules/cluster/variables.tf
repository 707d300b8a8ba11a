variable "name" {
  description = "Name of the cluster."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "The name is 3 to 24 lower-case letters, digits and hyphens, so that the target group's name stays within 32."
  }
}

variable "global_name" {
  description = "What the names of IAM roles begin with: another one in each region of an account."
  type        = string
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes."
  type        = string
  default     = "1.32"

  validation {
    condition     = can(regex("^1\\.(3[1-9])$", var.kubernetes_version))
    error_message = "Kubernetes 1.31 or newer, as in 1.32: the manifests need it."
  }
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "vpc_cidr" {
  description = "Addresses of the VPC."
  type        = string
}

variable "public_subnet_ids" {
  description = "Subnets of the front door."
  type        = list(string)
}

variable "node_subnet_ids" {
  description = "Subnets of the nodes."
  type        = list(string)
}

variable "api_cidrs" {
  description = "Addresses that reach the Kubernetes API from outside the VPC; none closes its public endpoint."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.api_cidrs : can(cidrhost(cidr, 0)) && !endswith(cidr, "/0")])
    error_message = "The Kubernetes API is open to named networks (192.0.2.0/24), never to the whole internet."
  }
}

variable "gateway_node_port" {
  description = "Node port of the gateway's Service."
  type        = number
  default     = 30443

  validation {
    condition     = var.gateway_node_port >= 30000 && var.gateway_node_port <= 32767
    error_message = "Kubernetes gives node ports from 30000 to 32767."
  }
}

variable "admin_role_arns" {
  description = "IAM roles of the people who administer the cluster, by a name; besides whoever applied this."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for arn in values(var.admin_role_arns) : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/", arn))])
    error_message = "A role looks like arn:aws:iam::123456789012:role/operators."
  }
}

variable "node_groups" {
  description = "Groups of nodes. GPU nodes are tainted, and none of them runs while nothing asks for one."
  type = map(object({
    instance_types = list(string)
    least          = number
    most           = number
    disk_gb        = optional(number, 50)
    gpu            = optional(bool, false)
    spot           = optional(bool, false)
  }))

  validation {
    condition     = alltrue([for group in var.node_groups : group.least == 0 if group.gpu])
    error_message = "A GPU group has `least = 0`: an idle GPU costs more than everything else together."
  }

  validation {
    condition     = anytrue([for group in var.node_groups : !group.gpu && group.least >= 2])
    error_message = "One group without GPUs has `least` of 2 or more, for a platform that survives the loss of a node."
  }

  validation {
    condition     = alltrue([for group in var.node_groups : group.most >= max(group.least, 1)])
    error_message = "`most` is at least `least`, and at least 1."
  }
}

variable "key_arn" {
  description = "ARN of the key that encrypts Kubernetes Secrets and the control plane's logs."
  type        = string
}

variable "log_bucket" {
  description = "Bucket of the front door's access logs."
  type        = string
}

variable "disposable" {
  description = "Whether the front door may be destroyed."
  type        = bool
}
