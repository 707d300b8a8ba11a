variable "global_name" {
  description = "What the names of the buckets begin with; unique in the world, because bucket names are."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,40}[a-z0-9]$", var.global_name))
    error_message = "The name is 3 to 42 lower-case letters, digits and hyphens, so that every bucket name stays within 63."
  }
}

variable "key_arn" {
  description = "ARN of the key that encrypts every object."
  type        = string
}

variable "old_version_days" {
  description = "Days for which an overwritten or deleted object can be brought back, and an erased person's audio still exists."
  type        = map(number)
  default = {
    audio     = 30
    snapshots = 30
    artifacts = 90
    events    = 7
  }

  validation {
    condition     = toset(keys(var.old_version_days)) == toset(["audio", "snapshots", "artifacts", "events"])
    error_message = "Give the days for audio, snapshots, artifacts and events, and for nothing else."
  }

  validation {
    condition     = alltrue([for days in values(var.old_version_days) : days >= 1])
    error_message = "Old versions are kept for at least a day: without them no deletion can be taken back."
  }
}

variable "retention_days" {
  description = "Days after which objects are deleted; null keeps them. Snapshots and models are kept, for they say what a model learnt from."
  type        = map(number)
  default = {
    audio     = 730
    snapshots = null
    artifacts = null
    events    = 90
  }

  validation {
    condition     = toset(keys(var.retention_days)) == toset(["audio", "snapshots", "artifacts", "events"])
    error_message = "Give the days for audio, snapshots, artifacts and events, and for nothing else; null keeps them."
  }

  validation {
    condition     = alltrue([for days in values(var.retention_days) : days == null || try(days > 30, false)])
    error_message = "Objects are kept for more than 30 days (they move to cheaper storage at 30), or for ever (null)."
  }
}

variable "replica" {
  description = "Buckets in another region, by what they hold, and their key: what must survive a region is copied there. Null copies nothing."
  type = object({
    bucket_arns = map(string)
    key_arn     = string
  })
  default = null
}

variable "disposable" {
  description = "Whether buckets that hold something may be destroyed."
  type        = bool
}
