variable "primary_region" {
  description = "AWS region whose database is written to."
  type        = string
  default     = "eu-central-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.primary_region))
    error_message = "A region looks like eu-central-1."
  }
}

variable "standby_region" {
  description = "AWS region that recognises speech too and takes over when the primary is lost. In the same jurisdiction: people's speech is copied there."
  type        = string
  default     = "eu-west-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.standby_region)) && var.standby_region != var.primary_region
    error_message = "The standby is another region than the primary, such as eu-west-1."
  }
}

variable "standby_promoted" {
  description = "Makes the standby's database one of its own and sends corrections there: the last step of a failover. There is no way back but a new replica."
  type        = bool
  default     = false
}

variable "global_name" {
  description = "What the names of buckets and IAM roles begin with; unique in the world, because bucket names are."
  type        = string
  default     = "hearloop-production"

  validation {
    condition     = length(var.global_name) <= 34
    error_message = "The name has at most 34 characters, so that the standby's, which is 8 longer, stays within 42."
  }
}

variable "domain" {
  description = "The domain whose names this environment answers to, such as speech.example.com."
  type        = string
}

variable "release" {
  description = "Tag of the images to run; null until they have been pushed."
  type        = string
  default     = null
}

variable "api_cidrs" {
  description = "Addresses that reach the Kubernetes API from outside the network; none closes it."
  type        = list(string)
  default     = []
}

variable "admin_role_arns" {
  description = "IAM roles of the people who administer the clusters, by a name."
  type        = map(string)
  default     = {}
}

variable "alarm_emails" {
  description = "Addresses that alarms are sent to."
  type        = set(string)

  validation {
    condition     = length(var.alarm_emails) > 0
    error_message = "Somebody has to be told when production fails: give an address."
  }
}

variable "disposable" {
  description = "Takes the protection off, so that production may be destroyed: applied first, on purpose, before `destroy`."
  type        = bool
  default     = false
}
