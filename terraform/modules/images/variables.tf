variable "repositories" {
  description = "Names of the images, each `hearloop/<name>`."
  type        = set(string)
  default     = ["serving", "monitor", "pipeline", "pipeline-cuda", "functions"]

  validation {
    condition     = alltrue([for name in var.repositories : can(regex("^[a-z][a-z0-9-]*$", name))])
    error_message = "The name of an image is lower-case letters, digits and hyphens, without hearloop/ in front."
  }
}

variable "replica_region" {
  description = "Region that images are copied to; null copies none."
  type        = string
  default     = null
}

variable "key_arn" {
  description = "ARN of the key that encrypts the images."
  type        = string
}

variable "disposable" {
  description = "Whether repositories that hold images may be destroyed."
  type        = bool
}
