"""What moto does not do of AWS, in one list with reasons, and copies of terraform/ that do without.

The files of the repository know nothing of moto. A copy gets override files, which Terraform merges
over the others: resources that moto cannot make are left out of it, and attributes that moto
forgets are left alone. `terraform test` covers these with mock_provider instead.
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

TERRAFORM = Path(__file__).parents[2] / "terraform"

Clients = Callable[[str], Any]
"""A boto3 client of a service, bound to moto."""


@dataclass(frozen=True, kw_only=True)
class Absent:
    """What moto cannot make."""

    folder: str
    """Below terraform/."""
    resources: tuple[str, ...]
    reason: str
    override: str
    """HCL that leaves it out."""
    call: Callable[[Clients], Any]
    """A call that Terraform needs and moto refuses: the day it works, this entry has to go."""

    def still(self, clients: Clients) -> bool:
        """Whether moto cannot do it yet."""
        try:
            self.call(clients)
        except (ClientError, BotoCoreError, ResponseParserError):
            return True
        return False


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """Attributes that moto takes and does not give back, or gives back as nobody set them."""

    resource: str
    attributes: tuple[str, ...]
    reason: str


OVERRIDE = "moto_override.tf"

ABSENT = (
    Absent(
        folder="modules/events",
        resources=(
            "aws_msk_configuration",
            "aws_msk_cluster",
            "aws_msk_scram_secret_association",
            "aws_appautoscaling_target",
            "aws_appautoscaling_policy",
        ),
        reason="MSK has no configurations and no SCRAM secrets; its clusters crash the provider",
        override="""
            resource "aws_msk_configuration" "this" { count = 0 }
            resource "aws_msk_cluster" "this" {
              count = 0
              configuration_info {
                arn      = "arn:aws:kafka:eu-central-1:123456789012:configuration/none/1"
                revision = 1
              }
            }
            resource "aws_msk_scram_secret_association" "this" {
              count       = 0
              cluster_arn = "arn:aws:kafka:eu-central-1:123456789012:cluster/none/1"
            }
            resource "aws_appautoscaling_target" "storage" {
              count       = 0
              resource_id = "none"
            }
            resource "aws_appautoscaling_policy" "storage" {
              count              = 0
              service_namespace  = "kafka"
              resource_id        = "none"
              scalable_dimension = "kafka:broker-storage:VolumeSize"
            }
            output "bootstrap_servers" { value = "kafka.example.com:9096" }
        """,
        call=lambda clients: clients("kafka").create_configuration(
            Name="probe", ServerProperties=b"auto.create.topics.enable=false"
        ),
    ),
    Absent(
        folder="modules/cache",
        resources=("aws_elasticache_replication_group",),
        reason="ElastiCache makes a replication group without the nodes that are read back",
        override="""
            resource "aws_elasticache_replication_group" "this" {
              count             = 0
              subnet_group_name = "none"
            }
            output "host" { value = "cache.example.com" }
        """,
        call=lambda clients: _nodes_of_a_cache(clients("elasticache")),
    ),
    Absent(
        folder="modules/cache",
        resources=("aws_elasticache_subnet_group",),
        reason="ElastiCache does not delete a subnet group (the provider tries for minutes)",
        override='resource "aws_elasticache_subnet_group" "this" { count = 0 }',
        call=lambda clients: clients("elasticache").delete_cache_subnet_group(
            CacheSubnetGroupName="probe"
        ),
    ),
    Absent(
        folder="modules/cluster",
        resources=("aws_eks_addon",),
        reason="EKS has no add-ons (404)",
        override='resource "aws_eks_addon" "this" { for_each = {} }',
        call=lambda clients: clients("eks").create_addon(clusterName="probe", addonName="vpc-cni"),
    ),
    Absent(
        folder="modules/cluster",
        resources=("aws_eks_access_entry", "aws_eks_access_policy_association"),
        reason="EKS has no access entries (404)",
        override="""
            resource "aws_eks_access_entry" "admin" { for_each = {} }
            resource "aws_eks_access_policy_association" "admin" { for_each = {} }
        """,
        call=lambda clients: clients("eks").create_access_entry(
            clusterName="probe", principalArn="arn:aws:iam::123456789012:role/probe"
        ),
    ),
    Absent(
        folder="modules/cluster",
        resources=("aws_autoscaling_attachment", "aws_autoscaling_group_tag"),
        reason="a node group of EKS names a scaling group that is not there",
        override="""
            resource "aws_autoscaling_attachment" "gateway" { for_each = {} }
            resource "aws_autoscaling_group_tag" "template" { for_each = {} }
        """,
        call=lambda clients: clients("autoscaling").attach_load_balancer_target_groups(
            AutoScalingGroupName="eks-probe", TargetGroupARNs=["probe"]
        ),
    ),
    Absent(
        folder="modules/storage",
        resources=("aws_s3_bucket_metric",),
        reason="S3 takes the configuration of request metrics for the creation of a bucket",
        override='resource "aws_s3_bucket_metric" "this" { for_each = {} }',
        call=lambda clients: _metrics_of_a_bucket(clients("s3")),
    ),
    Absent(
        folder="modules/observability",
        resources=("aws_budgets_budget",),
        reason="Budgets has no tags, which the provider reads after each creation (500)",
        override='resource "aws_budgets_budget" "this" { count = 0 }',
        call=lambda clients: clients("budgets").list_tags_for_resource(
            ResourceARN="arn:aws:budgets::123456789012:budget/probe"
        ),
    ),
    Absent(
        folder="modules/edge",
        resources=("aws_route53_query_log",),
        reason="Route 53 takes the ARN of a log group with and without `:*`, moto only with it",
        override="""
            resource "aws_route53_query_log" "this" {
              cloudwatch_log_group_arn = "${aws_cloudwatch_log_group.queries.arn}:*"
            }
        """,
        call=lambda clients: _query_log(clients("route53"), clients("logs")),
    ),
    Absent(
        folder="state",
        resources=("aws_s3_bucket_policy",),
        reason="moto is reached over plain HTTP, which this policy refuses to readers of the state",
        override='resource "aws_s3_bucket_policy" "this" { count = 0 }',
        call=lambda clients: _object_over_tls_only(clients("s3")),
    ),
)
"""Covered by tests/*.tftest.hcl beside them."""

FORGOTTEN = (
    Forgotten(
        resource="aws_eks_cluster",
        attributes=("access_config", "bootstrap_self_managed_addons"),
        reason="EKS forgets how access is granted",
    ),
    Forgotten(
        resource="aws_eks_node_group",
        attributes=("remote_access", "update_config", "scaling_config[0].desired_size"),
        reason="EKS reports an SSH key that nobody gave (desired_size: the module's own)",
    ),
    Forgotten(
        resource="aws_launch_template",
        attributes=("tag_specifications",),
        reason="EC2 lists the template's own tags among those of its instances",
    ),
    Forgotten(
        resource="aws_vpc_security_group_ingress_rule",
        attributes=("description",),
        reason="EC2 forgets the description of a rule that names another group",
    ),
    Forgotten(
        resource="aws_vpc_security_group_egress_rule",
        attributes=("description",),
        reason="EC2 forgets the description of a rule that names another group",
    ),
    Forgotten(
        resource="aws_db_instance",
        attributes=("performance_insights_enabled", "performance_insights_kms_key_id"),
        reason="RDS forgets Performance Insights",
    ),
    Forgotten(
        resource="aws_db_parameter_group",
        attributes=("parameter",),
        reason="RDS does not tell parameters that were set from defaults",
    ),
    Forgotten(
        resource="aws_lambda_function",
        attributes=("dead_letter_config", "image_config"),
        reason="Lambda forgets the queue for failures and reports an empty image configuration",
    ),
    Forgotten(
        resource="aws_s3_bucket_replication_configuration",
        attributes=("rule",),
        reason="S3 forgets that deletions and encrypted objects are copied too",
    ),
    Forgotten(
        resource="aws_secretsmanager_secret",
        attributes=("replica",),
        reason="Secrets Manager names its own key for a copy, not the one that was given",
    ),
)
"""What matters of them is asserted by `terraform test`."""


def copy_of(destination: Path) -> Path:
    """A copy of terraform/ without what moto lacks, at `destination`."""
    shutil.copytree(TERRAFORM, destination, ignore=shutil.ignore_patterns(".terraform*"))
    for folder in (path.parent for path in destination.rglob("main.tf")):
        parts = [each.override for each in ABSENT if destination / each.folder == folder]
        parts += [_left_alone(folder, forgotten) for forgotten in FORGOTTEN]
        (folder / OVERRIDE).write_text("\n".join(parts), encoding="utf-8")
    return destination


def _left_alone(folder: Path, forgotten: Forgotten) -> str:
    names = [
        name
        for path in sorted(folder.glob("*.tf"))
        for name in re.findall(
            rf'^resource "{forgotten.resource}" "(\w+)"', path.read_text(encoding="utf-8"), re.M
        )
    ]
    ignored = ", ".join(forgotten.attributes)
    return "\n".join(
        f'resource "{forgotten.resource}" "{name}" {{\n'
        f"  lifecycle {{\n    ignore_changes = [{ignored}]\n  }}\n}}"
        for name in names
    )


def _nodes_of_a_cache(cache: Any) -> None:
    name = "probe"
    cache.create_replication_group(
        ReplicationGroupId=name, ReplicationGroupDescription=name, CacheNodeType="cache.t4g.small"
    )
    try:
        cache.describe_cache_clusters(CacheClusterId=f"{name}-001")
    finally:
        cache.delete_replication_group(ReplicationGroupId=name)


def _metrics_of_a_bucket(s3: Any) -> None:
    name = _bucket(s3, "metrics")
    s3.put_bucket_metrics_configuration(Bucket=name, Id="all", MetricsConfiguration={"Id": "all"})


def _object_over_tls_only(s3: Any) -> None:
    name = _bucket(s3, "tls-only")
    s3.put_object(Bucket=name, Key="state", Body=b"{}")
    refusal = {
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    s3.put_bucket_policy(
        Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [refusal]})
    )
    s3.get_object(Bucket=name, Key="state")


def _bucket(s3: Any, name: str) -> str:
    s3.create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name}
    )
    return name


def _query_log(route53: Any, logs: Any) -> None:
    zone = route53.create_hosted_zone(Name="probe.example.com", CallerReference="probe")
    logs.create_log_group(logGroupName="/aws/route53/probe")
    (group,) = logs.describe_log_groups(logGroupNamePrefix="/aws/route53/probe")["logGroups"]
    route53.create_query_logging_config(
        HostedZoneId=zone["HostedZone"]["Id"],
        CloudWatchLogsLogGroupArn=group["arn"].removesuffix(":*"),
    )
