variable "name" {
  description = "What the names of resources begin with."
  type        = string
}

variable "anomalies" {
  description = "Metrics that are watched for what is unusual: what it means, and whether too little is a sign as well (`low`)."
  type = map(object({
    means      = string
    namespace  = string
    metric     = string
    dimensions = map(string)
    statistic  = string
    low        = optional(bool, false)
  }))
}

variable "limits" {
  description = "Metrics with a limit: an alarm rings when one is above `above` or below `below`."
  type = map(object({
    means      = string
    namespace  = string
    metric     = string
    dimensions = map(string)
    statistic  = string
    above      = optional(number)
    below      = optional(number)
  }))

  validation {
    condition     = alltrue([for limit in var.limits : (limit.above == null) != (limit.below == null)])
    error_message = "A limit has either `above` or `below`."
  }
}

variable "emails" {
  description = "Addresses that alarms are sent to; each has to confirm."
  type        = set(string)

  validation {
    condition     = alltrue([for email in var.emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", email))])
    error_message = "An address looks like oncall@example.com."
  }
}

variable "budget_usd" {
  description = "Dollars a month; null where another region's budget counts already."
  type        = number
  default     = null

  validation {
    condition     = var.budget_usd == null || try(var.budget_usd > 0, false)
    error_message = "A budget is more than nothing, or null."
  }
}

variable "key_arn" {
  description = "ARN of the key that encrypts logs and alarms."
  type        = string
}
