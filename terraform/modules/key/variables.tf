variable "name" {
  description = "Alias of the key."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9/-]{3,200}$", var.name)) && !startswith(var.name, "aws/")
    error_message = "The alias is 3 to 200 lower-case letters, digits, hyphens and slashes, and does not begin with aws/."
  }
}

variable "description" {
  description = "What the key encrypts."
  type        = string
}

variable "services" {
  description = "Service principals that may use the key themselves, such as `logs.eu-central-1.amazonaws.com`."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for service in var.services : endswith(service, ".amazonaws.com")])
    error_message = "A service principal ends in .amazonaws.com."
  }
}

variable "deletion_days" {
  description = "Days between the order to delete the key and its loss; without it nothing that it encrypted can be read."
  type        = number
  default     = 30

  validation {
    condition     = var.deletion_days >= 7 && var.deletion_days <= 30
    error_message = "AWS waits 7 to 30 days before it deletes a key."
  }
}
