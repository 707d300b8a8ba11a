variable "prefix" {
  description = "What the names of the buckets and of the key begin with; unique in the world, because bucket names are."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,40}[a-z0-9]$", var.prefix))
    error_message = "The prefix is 3 to 42 lower-case letters, digits and hyphens, so that every bucket name stays within 63."
  }
}

variable "old_version_days" {
  description = "Days for which an overwritten or deleted object can be brought back, per bucket."
  type        = map(number)
  default = {
    audio     = 30
    snapshots = 365
    artifacts = 365
    events    = 7
  }

  validation {
    condition     = setunion(keys(var.old_version_days), ["audio", "snapshots", "artifacts", "events"]) == toset(["audio", "snapshots", "artifacts", "events"]) && length(var.old_version_days) == 4
    error_message = "Give the days for audio, snapshots, artifacts and events, and for nothing else."
  }

  validation {
    condition     = alltrue([for days in values(var.old_version_days) : days >= 1])
    error_message = "Old versions are kept for at least a day."
  }
}

variable "key_deletion_days" {
  description = "Days between the order to delete the key and its loss; without the key nothing in the buckets can be read."
  type        = number
  default     = 30
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
