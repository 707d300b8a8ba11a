"""Both environments really applied, planned again and destroyed, with moto in the place of AWS."""

import json
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from hearloop.config import Buckets, Settings
from serving.functions.handler import TOKEN_SECRET
from tests.deploy import terraform_runs as terraform
from tests.deploy.terraform_lives import ENVIRONMENTS, FORGETFUL, Life
from tests.deploy.terraform_moto import ABSENT, Absent

pytestmark = pytest.mark.timeout(900)

STAGING_SECONDS = 360  # what the platform's engineers will wait for

WILDCARDS = {
    "AccountByIamPolicies": "in the policy of a key, * is that key, and the account its owner",
    "ServicesOnOurBehalf": "in the policy of a key, * is that key",
    "OnlyOverTls": "a refusal: the wider, the better",
    "OnlyFromTls12": "a refusal: the wider, the better",
    "OnlyOurKey": "a refusal: the wider, the better",
    "SeeWhatThereIs": "the autoscaler describes all or nothing: these calls take no resource",
    "Trace": "X-Ray's calls take no resource",
    "__default_statement_ID": "what SNS gives a new topic: our policy takes its place at once",
    "aws_vpc_endpoint": "AWS's default: roles say who may do what behind an endpoint",
}
"""Statements that may name any resource, any principal, or actions by a pattern, and why."""


MANAGED = {
    "AmazonEKSClusterPolicy": "what EKS's control plane does in the account",
    "AmazonEKSWorkerNodePolicy": "how a node joins its cluster",
    "AmazonEKS_CNI_Policy": "how pods get addresses",
    "AmazonEC2ContainerRegistryPullOnly": "how a node pulls images",
    "AmazonEBSCSIDriverPolicy": "how volumes are made; only what the driver has tagged",
    "CloudWatchAgentServerPolicy": "how the logs of pods get into CloudWatch",
    "AmazonRDSEnhancedMonitoringRole": "how RDS reports its host's figures",
    "AWSLambdaENIManagementAccess": "how a function gets an address in the VPC",
}
"""AWS's own policies, which name wildcards, and what each is for: AWS keeps them in step with its
services."""

ENCRYPTED = {
    "aws_cloudwatch_log_group": "kms_key_id",
    "aws_db_instance": "kms_key_id",
    "aws_ecr_repository": "encryption_configuration.0.kms_key",
    "aws_eks_cluster": "encryption_config.0.provider.0.key_arn",
    "aws_lambda_function": "kms_key_arn",
    "aws_s3_bucket_server_side_encryption_configuration": (
        "rule.0.apply_server_side_encryption_by_default.0.kms_master_key_id"
    ),
    "aws_secretsmanager_secret": "kms_key_id",
    "aws_sns_topic": "kms_master_key_id",
    "aws_sqs_queue": "kms_master_key_id",
}
"""What keeps data, and where it names its key. MSK and the cache, which moto lacks, are asserted
with a mock; the nodes' disks have AWS's own key."""


@pytest.fixture(params=ENVIRONMENTS)
def life(request: pytest.FixtureRequest, lives: dict[str, Future[Life]]) -> Life:
    return lives[request.param].result()


def test_staging_is_applied_in_time(lives: dict[str, Future[Life]]) -> None:
    assert lives["staging"].result().apply_seconds <= STAGING_SECONDS


def test_a_second_plan_shows_no_change(life: Life) -> None:
    assert life.second_plan.returncode == 0, life.second_plan.stdout + life.second_plan.stderr


def test_nobody_else_plans_while_the_state_is_locked(life: Life) -> None:
    assert life.second_writer.returncode == 1
    assert "Error acquiring the state lock" in life.second_writer.stderr


def test_destroy_leaves_nothing(life: Life) -> None:
    assert len(life.during) > len(life.before) + 50
    assert life.state_after == ""
    assert life.after == life.before


def test_only_the_online_store_has_its_password_in_the_state(life: Life) -> None:
    assert len(life.passwords) == 3
    in_state = {name for name, password in life.passwords.items() if password in life.state}
    assert {name.split("/")[-1] for name in in_state} <= {"cache"}


def test_wildcards_are_those_with_a_reason(life: Life) -> None:
    wide = {
        statement.get("Sid", resource["type"])
        for resource in life.resources
        for statement in _statements(resource["values"])
        if _is_wide(statement)
    }
    assert wide == set(WILDCARDS)


def test_policies_of_aws_are_those_with_a_reason(life: Life) -> None:
    attached = _of(life, "aws_iam_role_policy_attachment")
    names = {each["values"]["policy_arn"].rpartition("/")[2] for each in attached}
    assert names == set(MANAGED)


def test_every_bucket_is_closed_encrypted_versioned_and_kept_in_order(life: Life) -> None:
    for kind in (
        "aws_s3_bucket_public_access_block",
        "aws_s3_bucket_server_side_encryption_configuration",
        "aws_s3_bucket_versioning",
        "aws_s3_bucket_lifecycle_configuration",
        "aws_s3_bucket_policy",
    ):
        assert _buckets(life, kind) == _buckets(life, "aws_s3_bucket"), kind


def test_what_keeps_data_is_encrypted_with_keys_of_ours(life: Life) -> None:
    ours = {each["values"]["arn"] for each in _of(life, "aws_kms_key")}
    for kind, path in ENCRYPTED.items():
        assert _of(life, kind), kind
        for each in _of(life, kind):
            delivered_by_aws = each["address"].endswith(".logs") and "s3" in kind
            assert delivered_by_aws or _at(each["values"], path) in ours, each["address"]
    assert all(each["values"]["storage_encrypted"] for each in _of(life, "aws_db_instance"))
    assert all(each["values"]["enable_key_rotation"] for each in _of(life, "aws_kms_key"))


def test_buckets_are_those_of_the_settings(life: Life) -> None:
    names = {name.rsplit("-", 1)[1] for name in _buckets(life, "aws_s3_bucket")}
    assert names == {*Buckets.model_fields, "logs"}


def test_what_moto_is_said_to_forget_it_does_forget(lives: dict[str, Future[Life]]) -> None:
    changed = set().union(*(future.result().remembering for future in lives.values()))
    assert changed == FORGETFUL


def test_production_copies_speech_to_its_standby(lives: dict[str, Future[Life]]) -> None:
    copied = {
        each["values"]["bucket"]: each["values"]["rule"][0]["destination"][0]["bucket"]
        for each in _of(lives["production"].result(), "aws_s3_bucket_replication_configuration")
    }
    assert copied == {
        f"hearloop-production-{holds}": f"arn:aws:s3:::hearloop-production-standby-{holds}"
        for holds in ("audio", "snapshots", "artifacts")
    }


def test_production_copies_the_databases_password_to_its_standby(
    lives: dict[str, Future[Life]],
) -> None:
    copied = {
        each["values"]["name"]: each["values"]["replica"][0]["region"]
        for each in _of(lives["production"].result(), "aws_secretsmanager_secret")
        if each["values"]["replica"]
    }
    assert copied == {"hearloop-production/database": "eu-west-1"}


def test_uploads_are_transcribed_in_one_region(lives: dict[str, Future[Life]]) -> None:
    production = lives["production"].result()
    (function,) = _of(production, "aws_lambda_function")
    assert function["address"].startswith("module.primary.")
    promoted = [each for each in production.promotion if ".aws_lambda_function." in each]
    assert promoted == ["module.standby.module.functions[0].aws_lambda_function.this"]


def test_the_function_calls_a_name_that_dns_has(life: Life) -> None:
    (function,) = _of(life, "aws_lambda_function")
    settings = function["values"]["environment"][0]["variables"]
    assert settings.keys() <= Settings().to_environment().keys() | {TOKEN_SECRET}
    names = {each["values"]["name"] for each in _of(life, "aws_route53_record")}
    assert settings["HEARLOOP_SERVING_URL"].removeprefix("https://") in names
    assert {name.split(".")[0] for name in names} >= {"api", "corrections", "partners"}


def test_production_fails_over_without_losing_its_database(lives: dict[str, Future[Life]]) -> None:
    promotion = lives["production"].result().promotion
    assert promotion["module.standby.module.database.aws_db_instance.this"] == "update"
    assert not [address for address in promotion if address.startswith("module.primary.")]
    changed = {address.split("[")[0] for address in promotion}
    assert "module.edge.aws_route53_record.corrections" in changed


@pytest.mark.parametrize("absent", ABSENT, ids=lambda absent: absent.resources[0])
def test_what_moto_is_said_to_lack_it_does_lack(absent: Absent, spare_moto: str) -> None:
    assert absent.still(lambda service: terraform.client(service, spare_moto)), (
        f"moto has learnt {', '.join(absent.resources)}: take it out of ABSENT"
    )


@pytest.fixture(scope="session")
def spare_moto() -> Iterator[str]:
    with terraform.moto() as address:
        yield address


def _of(life: Life, kind: str) -> list[dict[str, Any]]:
    return [resource for resource in life.resources if resource["type"] == kind]


def _at(values: Any, path: str) -> Any:
    for step in path.split("."):
        values = values[int(step) if step.isdigit() else step]
    return values


def _buckets(life: Life, kind: str) -> set[str]:
    return {resource["values"]["bucket"] for resource in _of(life, kind)}


def _statements(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in ("policy", "assume_role_policy", "policy_document"):
        text = values.get(name)
        if text and "Statement" in text:
            yield from json.loads(text)["Statement"]


def _is_wide(statement: dict[str, Any]) -> bool:
    """Any resource, any principal, or actions that are not named in full."""
    principal = statement.get("Principal", {})
    principals = principal if isinstance(principal, str) else list(principal.values())
    return (
        "*" in _listed(statement.get("Resource", []))
        or "*" in _listed(principals)
        or any("*" in action for action in _listed(statement["Action"]))
    )


def _listed(value: Any) -> list[str]:
    """A string, or strings in lists, as one list."""
    return [value] if isinstance(value, str) else [text for each in value for text in _listed(each)]
