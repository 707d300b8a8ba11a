variable "name" {
  description = "What the names of resources begin with."
  type        = string
}

variable "domain" {
  description = "The domain whose names these are; its owner delegates it to the name servers of the output."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "A domain looks like speech.example.com: lower case, at least one dot, none at the end."
  }
}

variable "regions" {
  description = "The front door of each region: host name and hosted zone of its load balancer."
  type        = map(object({ hostname = string, zone_id = string }))

  validation {
    condition     = length(var.regions) >= 1 && length(var.regions) <= 2
    error_message = "One region, or two that fail over to each other."
  }
}

variable "primary_region" {
  description = "The region whose database is written to."
  type        = string

  validation {
    condition     = contains(keys(var.regions), var.primary_region)
    error_message = "The primary region is one of `regions`."
  }
}

variable "health_path" {
  description = "Path that answers 200 while the region recognises speech; open to anybody."
  type        = string
  default     = "/v2/health/ready"

  validation {
    condition     = startswith(var.health_path, "/")
    error_message = "A path begins with a slash."
  }
}
