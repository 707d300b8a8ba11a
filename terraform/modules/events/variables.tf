variable "name" {
  description = "Name of the Kafka cluster."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets without a way out, one a zone."
  type        = list(string)
}

variable "client_security_group_id" {
  description = "The group that is let in."
  type        = string
}

variable "kafka_version" {
  description = "Version of Kafka."
  type        = string
  default     = "3.8.x"
}

variable "brokers" {
  description = "Number of brokers, a multiple of the number of subnets."
  type        = number

  validation {
    condition     = var.brokers >= 2 && var.brokers % length(var.subnet_ids) == 0
    error_message = "At least two brokers, and as many in each subnet."
  }
}

variable "instance_type" {
  description = "Size of a broker."
  type        = string

  validation {
    condition     = startswith(var.instance_type, "kafka.")
    error_message = "The type of a broker begins with kafka., as in kafka.t3.small."
  }
}

variable "retention_days" {
  description = "Days for which events are kept: as long as a consumer may be away."
  type        = number
  default     = 14

  validation {
    condition     = var.retention_days >= 7
    error_message = "Events are kept for a week at least: a consumer may be away over a weekend and the days to repair it."
  }
}

variable "credentials_secret_arn" {
  description = "Secret with the user name and password; its name begins with AmazonMSK_, and a customer's key encrypts it."
  type        = string
}

variable "key_arn" {
  description = "ARN of the key that encrypts the log and the brokers' logs."
  type        = string
}
