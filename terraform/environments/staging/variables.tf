variable "region" {
  description = "AWS region of everything in this environment."
  type        = string
  default     = "eu-central-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "A region looks like eu-central-1."
  }
}

variable "global_name" {
  description = "What the names of buckets and IAM roles begin with; unique in the world, because bucket names are."
  type        = string
  default     = "hearloop-staging"
}

variable "domain" {
  description = "The domain whose names this environment answers to, such as staging.speech.example.com."
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
  description = "IAM roles of the people who administer the cluster, by a name."
  type        = map(string)
  default     = {}
}

variable "alarm_emails" {
  description = "Addresses that alarms are sent to."
  type        = set(string)
}
