output "primary_endpoint" {
  value = aws_elasticache_replication_group.this.primary_endpoint_address
}

output "reader_endpoint" {
  value = aws_elasticache_replication_group.this.reader_endpoint_address
}

output "replication_group_id" {
  value = aws_elasticache_replication_group.this.id
}

output "member_clusters" {
  value = aws_elasticache_replication_group.this.member_clusters
}

output "alarm_topic" {
  description = "null without alarms."
  value       = one(aws_sns_topic.this[*].arn)
}
