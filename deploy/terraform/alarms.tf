# Metrics of ElastiCache belong to nodes, never to a group: an alarm whose dimension is the group's id watches
# nothing. Each alarm here looks at all nodes at once, so that it does not matter which of them is the primary.

resource "aws_sns_topic" "this" {
  count = var.alarms ? 1 : 0
  name  = "${var.name}-alarms"
  tags  = var.tags
}

resource "aws_sns_topic_subscription" "email" {
  for_each  = var.alarms ? toset(var.alarm_emails) : toset([])
  topic_arn = aws_sns_topic.this[0].arn
  protocol  = "email"
  endpoint  = each.value
}

locals {
  # Lag and IsMaster take missing data for a fault: a group that says nothing is not well. The lag of the node that is
  # the primary is always missing, which MAX leaves out; so the alarm ends with data only when every replica is gone.
  watched = {
    replication-lag = { metric = "ReplicationLag", stat = "Maximum", period = 60, math = "MAX(METRICS())", above = var.lag_seconds, periods = 5, of = 3, missing = "breaching", text = "A failover now would lose more than is allowed, or there is no replica." }
    engine-cpu      = { metric = "EngineCPUUtilization", stat = "Maximum", period = 60, math = "MAX(METRICS())", above = 90, periods = 5, of = 3, missing = "notBreaching", text = "A node's one thread is busy: commands wait." }
    memory          = { metric = "DatabaseMemoryUsagePercentage", stat = "Maximum", period = 60, math = "MAX(METRICS())", above = 80, periods = 5, of = 3, missing = "notBreaching", text = "Soon writes are refused, or keys evicted." }
    evictions       = { metric = "Evictions", stat = "Sum", period = 300, math = "SUM(METRICS())", above = 100, periods = 3, of = 2, missing = "notBreaching", text = "Keys are thrown away before their time." }
    new-connections = { metric = "NewConnections", stat = "Sum", period = 60, math = "SUM(METRICS())", above = 1000, periods = 3, of = 2, missing = "notBreaching", text = "Clients do not keep their connections, or come back all at once." }
    two-primaries   = { metric = "IsMaster", stat = "Minimum", period = 60, math = "SUM(METRICS())", above = 1, periods = 3, of = 3, missing = "notBreaching", text = "More than one node takes writes." }
    no-primary      = { metric = "IsMaster", stat = "Maximum", period = 60, math = "1 - MAX(METRICS())", above = 0, periods = 2, of = 2, missing = "breaching", text = "No node takes writes." }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = var.alarms ? local.watched : {}
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.text
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.above
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = each.value.of
  treat_missing_data  = each.value.missing
  alarm_actions       = [aws_sns_topic.this[0].arn]
  ok_actions          = [aws_sns_topic.this[0].arn]
  tags                = var.tags

  metric_query {
    id          = "all"
    expression  = each.value.math
    label       = each.value.metric
    return_data = true
  }

  dynamic "metric_query" {
    for_each = local.members
    content {
      id = "n${metric_query.key}"
      metric {
        namespace   = "AWS/ElastiCache"
        metric_name = each.value.metric
        stat        = each.value.stat
        period      = each.value.period
        dimensions  = { CacheClusterId = metric_query.value, CacheNodeId = "0001" }
      }
    }
  }
}
