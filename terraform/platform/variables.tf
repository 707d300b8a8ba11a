variable "name" {
  description = "The environment: names of clusters, databases and secrets, the same in each of its regions."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "The name is 3 to 24 lower-case letters, digits and hyphens."
  }
}

variable "global_name" {
  description = "What names begin with that may exist only once: those of buckets and IAM roles."
  type        = string

  validation {
    condition     = startswith(var.global_name, var.name)
    error_message = "The global name begins with the environment's name, so that it can be recognised."
  }
}

variable "domain" {
  description = "The domain below which callers find the platform, as the edge module names it."
  type        = string
}

variable "cidr" {
  description = "Addresses of the network, a /16; another one in each region."
  type        = string
}

variable "size" {
  description = "What a small region and a large one differ in; each is described by the module that takes it."
  type = object({
    zones            = number
    nat_per_zone     = bool
    old_version_days = map(number)
    broker_type      = string # a Kafka broker in each zone

    node_groups = map(object({
      instance_types = list(string)
      least          = number
      most           = number
      disk_gb        = optional(number)
      gpu            = optional(bool)
      spot           = optional(bool)
    }))

    database = object({
      instance_class = string
      multi_az       = bool
      backup_days    = number
    })

    cache = object({
      node_type = string
      nodes     = number
    })
  })
}

variable "api_cidrs" {
  description = "Addresses that reach the Kubernetes API from outside."
  type        = list(string)
}

variable "admin_role_arns" {
  description = "IAM roles of the people who administer the cluster, by a name."
  type        = map(string)
}

variable "storage_replica" {
  description = "Buckets and key in another region that speech is copied to; null copies nothing."
  type = object({
    bucket_arns = map(string)
    key_arn     = string
  })
  default = null
}

variable "database_copies_to" {
  description = "Region whose database follows this one, and its platform key: it needs the same password. Null for none."
  type        = object({ region = string, key_arn = string })
  default     = null
}

variable "database_follows" {
  description = "Database in another region that this one follows, with its credentials; `promoted` makes this one a server of its own, for good."
  type = object({
    arn         = string
    secret_name = string
    secret_arn  = string
    promoted    = bool
  })
  default = null
}

variable "image_replica_region" {
  description = "Region that images are copied to."
  type        = string
  default     = null
}

variable "release" {
  description = "Tag of the images to run; null until they have been pushed."
  type        = string

  validation {
    condition     = var.release == null || can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+[0-9A-Za-z.-]*$", var.release))
    error_message = "A release looks like 0.1.0; a tag that moves, such as latest, is none."
  }
}

variable "alarm_emails" {
  description = "Addresses that alarms are sent to."
  type        = set(string)
}

variable "budget_usd" {
  description = "Dollars a month; null where another region's budget counts for the environment."
  type        = number
  default     = null
}

variable "disposable" {
  description = "Whether everything may be destroyed, with what it holds."
  type        = bool
}
