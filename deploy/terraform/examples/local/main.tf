# Applies the module to a running `understudy up` instead of AWS:
#
#   understudy up &
#   terraform init && terraform apply
#
# SNS and CloudWatch are asked only with -var alarms=true.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "endpoint" {
  type    = string
  default = "http://127.0.0.1:7390"
}

variable "alarms" {
  type    = bool
  default = false
}

variable "replicas" {
  type    = number
  default = 2
}

variable "snapshot_retention_days" {
  type    = number
  default = 7
}

provider "aws" {
  region                      = "us-east-1"
  access_key                  = "any"
  secret_key                  = "any"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true

  endpoints {
    elasticache = var.endpoint
    cloudwatch  = var.endpoint
    sns         = var.endpoint
    sts         = var.endpoint
  }
}

module "redis" {
  source = "../.."

  name                    = "my-shopify-redis-cluster"
  subnet_ids              = ["subnet-1", "subnet-2", "subnet-3"]
  security_group_ids      = ["sg-1"]
  node_type               = "cache.t4g.micro"
  engine_version          = "7.0"
  replicas                = var.replicas
  snapshot_retention_days = var.snapshot_retention_days
  transit_encryption      = false
  at_rest_encryption      = false
  alarms                  = var.alarms
}

output "primary_endpoint" {
  value = module.redis.primary_endpoint
}
