# Alarms of every kind that Terraform makes: what it reads back must be what it put.
terraform {
  required_providers {
    aws = { source = "hashicorp/aws", version = "5.100.0" }
  }
}
variable "endpoint" {}
variable "threshold" { default = 10 }
provider "aws" {
  region                      = "us-east-1"
  access_key                  = "any"
  secret_key                  = "any"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  endpoints {
    cloudwatch = var.endpoint
    sns        = var.endpoint
    sts        = var.endpoint
  }
  default_tags { tags = { team = "shop" } }
}
resource "aws_sns_topic" "alerts" { name = "tf-alerts" }
resource "aws_cloudwatch_metric_alarm" "lag" {
  alarm_name          = "tf-lag"
  alarm_description   = "Alert when replication lag exceeds 10 seconds"
  metric_name         = "ReplicationLag"
  namespace           = "AWS/ElastiCache"
  statistic           = "Average"
  period              = 300
  threshold           = var.threshold
  comparison_operator = "GreaterThanThreshold"
  evaluation_periods  = 2
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  dimensions          = { ReplicationGroupId = "main", B = "x", A = "y" }
  tags                = { a = "b" }
}
resource "aws_cloudwatch_metric_alarm" "least" {
  alarm_name          = "tf-least"
  metric_name         = "m"
  namespace           = "Mine"
  statistic           = "Sum"
  period              = 60
  threshold           = 0.1
  comparison_operator = "LessThanOrEqualToThreshold"
  evaluation_periods  = 1
}
resource "aws_cloudwatch_metric_alarm" "percentile" {
  alarm_name                            = "tf-percentile"
  metric_name                           = "m"
  namespace                             = "Mine"
  extended_statistic                    = "p99.9"
  unit                                  = "Seconds"
  period                                = 10
  threshold                             = 1
  comparison_operator                   = "GreaterThanOrEqualToThreshold"
  evaluation_periods                    = 3
  evaluate_low_sample_count_percentiles = "evaluate"
  treat_missing_data                    = "missing"
  actions_enabled                       = false
  insufficient_data_actions             = [aws_sns_topic.alerts.arn]
  ok_actions                            = [aws_sns_topic.alerts.arn]
}
resource "aws_cloudwatch_metric_alarm" "ignoring" {
  alarm_name                            = "tf-ignoring"
  metric_name                           = "m"
  namespace                             = "Mine"
  extended_statistic                    = "p50"
  period                                = 60
  threshold                             = 1
  comparison_operator                   = "GreaterThanThreshold"
  evaluation_periods                    = 1
  evaluate_low_sample_count_percentiles = "ignore"
}
resource "aws_cloudwatch_metric_alarm" "math" {
  alarm_name          = "tf-math"
  threshold           = 10
  comparison_operator = "GreaterThanThreshold"
  evaluation_periods  = 1
  metric_query {
    id          = "e1"
    expression  = "m2/m1*100"
    label       = "Error Rate"
    return_data = true
  }
  metric_query {
    id = "m1"
    metric {
      metric_name = "RequestCount"
      namespace   = "Mine"
      period      = 120
      stat        = "Sum"
      unit        = "Count"
      dimensions  = { LoadBalancer = "app/web" }
    }
  }
  metric_query {
    id         = "m2"
    account_id = "000000000000"
    metric {
      metric_name = "Errors"
      namespace   = "Mine"
      period      = 120
      stat        = "p90"
    }
  }
}
resource "aws_cloudwatch_composite_alarm" "page" {
  alarm_name        = "tf-page"
  alarm_description = "d"
  alarm_rule        = "ALARM(${aws_cloudwatch_metric_alarm.lag.alarm_name}) OR\n  ALARM(${aws_cloudwatch_metric_alarm.math.arn})"
  alarm_actions     = [aws_sns_topic.alerts.arn]
  actions_suppressor {
    alarm            = aws_cloudwatch_metric_alarm.least.alarm_name
    extension_period = 10
    wait_period      = 20
  }
  tags = { c = "d" }
}
resource "aws_cloudwatch_composite_alarm" "quiet" {
  alarm_name      = "tf-quiet"
  alarm_rule      = "FALSE"
  actions_enabled = false
}
