# `understudy proxy` as a service before a replication group of ElastiCache: two or more machines, kept alive by an
# auto scaling group, behind a load balancer inside of the network. Applications connect to the load balancer; the
# proxies hold their requests while the group fails over. Instances run systemd.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0, < 7.0"
    }
  }
}

variable "name" {
  type = string
  validation {
    condition     = length(var.name) <= 19
    error_message = "At most 19 characters: a target group's name has 32, and an ending is added."
  }
}

variable "replication_group_id" { type = string }
variable "region" { type = string }
variable "vpc_id" { type = string }
variable "subnet_ids" { type = list(string) }

variable "security_group_ids" {
  description = "Of the proxies. They let in the applications and the load balancer's probes (7379 to 7381, 7390), and may reach the nodes."
  type        = list(string)
}

variable "image_id" {
  description = "An image with systemd and curl: Amazon Linux 2023, Debian."
  type        = string
}

variable "program_url" {
  description = "Where the understudy program is fetched from, over https."
  type        = string
  validation {
    condition     = startswith(var.program_url, "https://")
    error_message = "https only."
  }
}

variable "program_sha256" {
  description = "Its checksum: another program is not started."
  type        = string
}

variable "instance_type" {
  type    = string
  default = "c7g.large"
}

variable "instances" {
  type    = number
  default = 2
}

variable "transit_encryption" {
  type    = bool
  default = true
}

variable "tags" {
  type    = map(string)
  default = {}
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

# No more than the proxy asks: which nodes there are, and who is the primary.
data "aws_iam_policy_document" "describe" {
  statement {
    actions   = ["elasticache:DescribeReplicationGroups", "elasticache:DescribeCacheClusters"]
    resources = ["*"]
  }
}

resource "aws_iam_role" "this" {
  name_prefix        = "${var.name}-proxy-"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "this" {
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.describe.json
}

resource "aws_iam_instance_profile" "this" {
  name_prefix = "${var.name}-proxy-"
  role        = aws_iam_role.this.name
}

resource "aws_launch_template" "this" {
  name_prefix            = "${var.name}-proxy-"
  image_id               = var.image_id
  instance_type          = var.instance_type
  vpc_security_group_ids = var.security_group_ids
  update_default_version = true
  tags                   = var.tags

  iam_instance_profile { arn = aws_iam_instance_profile.this.arn }
  metadata_options { http_tokens = "required" }

  user_data = base64encode(templatefile("${path.module}/start.sh.tftpl", {
    program_url    = var.program_url
    program_sha256 = var.program_sha256
    unit           = file("${path.module}/../../systemd/understudy-proxy.service")
    config = yamlencode({
      group  = var.replication_group_id
      listen = { primary = "0.0.0.0:7379", reader = "0.0.0.0:7380", split = "0.0.0.0:7381", http = "127.0.0.1:7390" }
      upstream = {
        elasticache = { replication_group = var.replication_group_id, region = var.region }
        tls         = { enabled = var.transit_encryption }
      }
    })
  }))
}

resource "aws_autoscaling_group" "this" {
  name_prefix         = "${var.name}-proxy-"
  min_size            = var.instances
  max_size            = var.instances + 1
  desired_capacity    = var.instances
  vpc_zone_identifier = var.subnet_ids
  target_group_arns   = [for t in aws_lb_target_group.this : t.arn]
  health_check_type   = "ELB"

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }

  instance_refresh {
    strategy = "Rolling"
    preferences { min_healthy_percentage = 100 }
  }
}

resource "aws_lb" "this" {
  name                             = "${var.name}-proxy"
  internal                         = true
  load_balancer_type               = "network"
  subnets                          = var.subnet_ids
  enable_cross_zone_load_balancing = true
  tags                             = var.tags
}

locals {
  ports = { primary = { listen = 6379, to = 7379 }, reader = { listen = 6380, to = 7380 }, split = { listen = 6381, to = 7381 } }
}

resource "aws_lb_target_group" "this" {
  for_each             = local.ports
  name                 = "${var.name}-${each.key}"
  port                 = each.value.to
  protocol             = "TCP"
  vpc_id               = var.vpc_id
  deregistration_delay = 30
  tags                 = var.tags

  health_check {
    protocol = "TCP"
    interval = 10
  }
}

resource "aws_lb_listener" "this" {
  for_each          = local.ports
  load_balancer_arn = aws_lb.this.arn
  port              = each.value.listen
  protocol          = "TCP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this[each.key].arn
  }
}

output "endpoint" {
  description = "6379 is the primary, 6380 the readers, 6381 writes to the primary and reads to fresh replicas."
  value       = aws_lb.this.dns_name
}
