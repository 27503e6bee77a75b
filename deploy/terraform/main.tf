# A replication group of ElastiCache that fails over by itself, with what such a group is often created without: its
# own subnet and parameter groups, and alarms that go on watching when primary and replica change places.

locals {
  nodes   = var.replicas + 1
  members = [for i in range(1, local.nodes + 1) : format("%s-%03d", var.name, i)]
}

resource "aws_elasticache_subnet_group" "this" {
  name        = "${var.name}-subnets"
  description = "Subnets of ${var.name}"
  subnet_ids  = var.subnet_ids
  tags        = var.tags
}

resource "aws_elasticache_parameter_group" "this" {
  name        = "${var.name}-parameters"
  description = "Parameters of ${var.name}"
  family      = var.parameter_group_family
  tags        = var.tags

  dynamic "parameter" {
    for_each = var.parameters
    content {
      name  = parameter.key
      value = parameter.value
    }
  }
}

resource "aws_elasticache_replication_group" "this" {
  replication_group_id = var.name
  description          = "Fails over by itself across zones"
  engine               = "redis"
  engine_version       = var.engine_version
  node_type            = var.node_type
  port                 = 6379

  num_cache_clusters         = local.nodes
  automatic_failover_enabled = true
  multi_az_enabled           = true

  subnet_group_name    = aws_elasticache_subnet_group.this.name
  security_group_ids   = var.security_group_ids
  parameter_group_name = aws_elasticache_parameter_group.this.name

  snapshot_window           = var.snapshot_window
  snapshot_retention_limit  = var.snapshot_retention_days
  final_snapshot_identifier = var.snapshot_retention_days > 0 ? "${var.name}-final" : null
  maintenance_window        = var.maintenance_window

  at_rest_encryption_enabled = var.at_rest_encryption
  transit_encryption_enabled = var.transit_encryption
  auth_token                 = var.auth_token
  apply_immediately          = true
  notification_topic_arn     = one(aws_sns_topic.this[*].arn)
  tags                       = var.tags
}
