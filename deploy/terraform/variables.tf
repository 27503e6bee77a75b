variable "name" {
  description = "Id of the replication group; the names of everything else begin with it."
  type        = string
  validation {
    condition     = can(regex("^[a-z]([a-z0-9]|-[a-z0-9])*$", var.name)) && length(var.name) <= 40
    error_message = "Lower-case letters, digits and single hyphens, a letter first, at most 40."
  }
}

variable "subnet_ids" {
  description = "Subnets of the nodes, in at least two zones."
  type        = list(string)
  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "Multi-AZ needs subnets in at least two zones."
  }
}

variable "security_group_ids" {
  description = "Security groups of the nodes. They let in the applications, or the proxy."
  type        = list(string)
}

variable "node_type" {
  type    = string
  default = "cache.m5.large"
}

variable "replicas" {
  description = "Replicas beside the primary. With one there is nothing to fail over to while the failed node is replaced."
  type        = number
  default     = 2
  validation {
    condition     = var.replicas >= 1 && var.replicas <= 5
    error_message = "From 1 to 5: Multi-AZ needs one, and ElastiCache has no more than 5."
  }
}

variable "engine_version" {
  type    = string
  default = "7.1"
}

variable "parameter_group_family" {
  description = "Family of the parameter group; it belongs to engine_version."
  type        = string
  default     = "redis7"
}

variable "parameters" {
  description = "Parameters of the engine. What may be evicted must not be what you cannot lose: queues and locks want noeviction."
  type        = map(string)
  default     = { maxmemory-policy = "noeviction" }
}

variable "snapshot_window" {
  type    = string
  default = "03:00-04:00"
}

variable "snapshot_retention_days" {
  type    = number
  default = 7
}

variable "maintenance_window" {
  description = "Not at the time of snapshots."
  type        = string
  default     = "sun:05:00-sun:06:00"
}

variable "transit_encryption" {
  type    = bool
  default = true
}

variable "at_rest_encryption" {
  type    = bool
  default = true
}

variable "auth_token" {
  description = "Password of the clients; null: none. It needs transit_encryption."
  type        = string
  default     = null
  sensitive   = true
}

variable "alarms" {
  description = "Make the SNS topic and the alarms."
  type        = bool
  default     = true
}

variable "alarm_emails" {
  description = "Who gets a mail of each alarm; each has to confirm."
  type        = list(string)
  default     = []
}

variable "lag_seconds" {
  description = "Replication lag that is too much: what a failover may lose."
  type        = number
  default     = 1
}

variable "tags" {
  type    = map(string)
  default = {}
}
