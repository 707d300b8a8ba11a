variable "region" {
  description = "AWS region of everything in this environment."
  type        = string
  default     = "eu-central-1"
}

variable "prefix" {
  description = "What the names of resources begin with; unique in the world."
  type        = string
}
