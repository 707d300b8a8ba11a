"""The life of an environment against moto: made, looked at, planned again, destroyed."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy import terraform_runs as terraform
from tests.deploy.terraform_moto import FORGOTTEN, OVERRIDE, copy_of

ENVIRONMENTS = ("staging", "production")
STATE_BUCKET = "hearloop-state"
REGIONS = ("eu-central-1", "eu-west-1", "us-east-1")

VARIABLES = {
    "TF_VAR_domain": "speech.example.com",
    "TF_VAR_alarm_emails": '["oncall@example.com"]',
}

PUSHED = {"TF_VAR_release": "0.1.0"}
"""Given once the images are in the repositories that the first apply makes."""

AT_ONCE = "-parallelism=20"  # most of an apply is waiting
FRESH = "-refresh=false"  # the state is as fresh as the apply that has just been

FORGETFUL = {forgotten.resource for forgotten in FORGOTTEN}

INVENTORY = {
    "ec2": ("describe_security_groups", "SecurityGroups", "GroupName"),
    "ecr": ("describe_repositories", "repositories", "repositoryName"),
    "eks": ("list_clusters", "clusters", None),
    "elbv2": ("describe_load_balancers", "LoadBalancers", "LoadBalancerName"),
    "iam": ("list_roles", "Roles", "RoleName"),
    "kms": ("list_aliases", "Aliases", "AliasName"),
    "lambda": ("list_functions", "Functions", "FunctionName"),
    "logs": ("describe_log_groups", "logGroups", "logGroupName"),
    "cloudwatch": ("describe_alarms", "MetricAlarms", "AlarmName"),
    "rds": ("describe_db_instances", "DBInstances", "DBInstanceIdentifier"),
    "route53": ("list_hosted_zones", "HostedZones", "Name"),
    "s3": ("list_buckets", "Buckets", "Name"),
    "secretsmanager": ("list_secrets", "SecretList", "Name"),
    "sns": ("list_topics", "Topics", "TopicArn"),
    "sqs": ("list_queues", "QueueUrls", None),
}
"""How to list what a service has: the call, where its answer has the list, and the names in it."""


@dataclass(frozen=True, kw_only=True)
class Life:
    """What was seen of one environment."""

    apply_seconds: float
    """Before the images are pushed and after, as docs/operate/first-transcription.md has it."""
    second_writer: terraform.Done
    """A plan while the apply held the lock."""
    second_plan: terraform.Done
    remembering: set[str]
    """Types that the second plan would change were moto's forgetfulness not excused."""
    promotion: dict[str, str]
    """What promoting the standby would do, by address; production alone."""
    resources: list[dict[str, Any]]
    """Every resource of the state, with its address, type and values."""
    state: str
    passwords: dict[str, str]
    """Passwords in Secrets Manager, by the name of their secret."""
    before: set[tuple[str, str, str]]
    during: set[tuple[str, str, str]]
    after: set[tuple[str, str, str]]
    """Service, region and name of what moto had."""
    state_after: str


def live(environment: str, folder: Path) -> Life:
    """Make, look at and destroy an environment; `folder` is empty and takes the copy."""
    copy = copy_of(folder / "terraform")
    with terraform.moto() as address:
        return _lived(environment, copy, address)


def _lived(environment: str, copy: Path, address: str) -> Life:
    place = copy / "environments" / environment
    variables = terraform.to_moto(address) | VARIABLES
    _keep_state(copy, place, variables)
    before = inventory(address)
    seconds, second_writer = _first_apply(place, address, variables)
    variables |= PUSHED
    seconds += _apply(place, variables, FRESH)
    second_plan = terraform.run(place, "plan", "-detailed-exitcode", "-no-color", **variables)
    state = terraform.succeed(place, "state", "pull", **variables)
    seen: dict[str, Any] = {
        "resources": list(_resources(json.loads(state))),
        "state": state,
        "passwords": _passwords(address),
        "during": inventory(address),
        "remembering": _unexcused(copy, place, variables),
        "promotion": _promotion(place, variables) if environment == "production" else {},
    }
    _destroy(environment, place, variables)
    return Life(
        apply_seconds=seconds,
        second_writer=second_writer,
        second_plan=second_plan,
        before=before,
        after=inventory(address),
        state_after=terraform.succeed(place, "state", "list", **variables),
        **seen,
    )


def _keep_state(copy: Path, place: Path, variables: dict[str, str]) -> None:
    """Make the bucket of the state as terraform/state does, and point the environment to it."""
    terraform.initialise(copy / "state", **variables)
    chosen = (f"-var=bucket={STATE_BUCKET}", "-auto-approve", "-no-color")
    terraform.succeed(copy / "state", "apply", *chosen, **variables)
    backend = {"bucket": STATE_BUCKET, "region": terraform.REGION, "use_path_style": "true"}
    terraform.initialise(
        place, *(f"-backend-config={key}={value}" for key, value in backend.items()), **variables
    )


def _first_apply(
    place: Path, address: str, variables: dict[str, str]
) -> tuple[float, terraform.Done]:
    """Apply, and try to plan beside it while it holds the lock."""
    with ThreadPoolExecutor(max_workers=1) as beside:
        writer = beside.submit(_plan_when_locked, place, address, variables)
        return _apply(place, variables), writer.result()


def _apply(place: Path, variables: dict[str, str], *options: str) -> float:
    """Apply, and return how many seconds it took."""
    start = time.monotonic()
    chosen = ("-auto-approve", "-no-color", AT_ONCE, *options)
    terraform.succeed(place, "apply", *chosen, **variables)
    return time.monotonic() - start


def _plan_when_locked(place: Path, address: str, variables: dict[str, str]) -> terraform.Done:
    objects = terraform.client("s3", address)

    def locked() -> bool:
        listed = objects.list_objects_v2(Bucket=STATE_BUCKET).get("Contents", [])
        return any(each["Key"].endswith(".tflock") for each in listed)

    terraform.wait_until(locked, 60, "the lock of the state")
    return terraform.run(place, "plan", "-no-color", "-lock-timeout=0s", **variables)


def _unexcused(copy: Path, place: Path, variables: dict[str, str]) -> set[str]:
    """Types that a plan changes which does not look away from what moto forgets."""
    kept = {path: path.read_text(encoding="utf-8") for path in copy.rglob(OVERRIDE)}
    for path, text in kept.items():
        path.write_text(text.replace("ignore_changes", "# ignore_changes"), encoding="utf-8")
    changed = {
        change["type"]
        for change in _planned(place, variables, refresh=place.name == "staging")
        if change["type"] in FORGETFUL or _changes_by_itself(change["change"])
    }
    for path, text in kept.items():
        path.write_text(text, encoding="utf-8")
    return changed


def _changes_by_itself(change: dict[str, Any]) -> bool:
    """Whether a known value changes, not only one that follows from another resource."""
    if change["actions"] != ["update"]:
        return False
    was, will, unknown = change["before"] or {}, change["after"] or {}, change["after_unknown"]
    return any(was.get(name) != will.get(name) and name not in unknown for name in {*was, *will})


def _promotion(place: Path, variables: dict[str, str]) -> dict[str, str]:
    promoted = variables | {"TF_VAR_standby_promoted": "true"}
    printed = terraform.succeed(place, "plan", "-json", "-refresh=false", **promoted)
    lines = map(json.loads, printed.splitlines())
    changes = (line["change"] for line in lines if line["type"] == "planned_change")
    return {change["resource"]["addr"]: change["action"] for change in changes}


def _planned(
    place: Path, variables: dict[str, str], *, refresh: bool = False
) -> list[dict[str, Any]]:
    """The changes of a plan."""
    terraform.succeed(
        place, "plan", "-no-color", f"-refresh={str(refresh).lower()}", "-out=planned", **variables
    )
    plan = json.loads(terraform.succeed(place, "show", "-json", "planned", **variables))
    return [
        each
        for each in plan["resource_changes"]
        if each["change"]["actions"] not in (["no-op"], ["read"])
    ]


def _destroy(environment: str, place: Path, variables: dict[str, str]) -> None:
    """As an operator does: production is made disposable first, on purpose."""
    if environment == "production":
        variables = variables | {"TF_VAR_disposable": "true"}
        _apply(place, variables, FRESH)
    terraform.succeed(place, "destroy", "-auto-approve", "-no-color", FRESH, AT_ONCE, **variables)


def _resources(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Address, type and values as `terraform show -json` has them, which takes far longer."""
    for each in state["resources"]:
        if each["mode"] != "managed":
            continue
        address = ".".join(filter(None, (each.get("module"), each["type"], each["name"])))
        for instance in each["instances"]:
            index = instance.get("index_key")
            place = "" if index is None else f"[{json.dumps(index)}]"
            yield {
                "address": address + place,
                "type": each["type"],
                "values": instance["attributes"],
            }


def _passwords(address: str) -> dict[str, str]:
    secrets = terraform.client("secretsmanager", address)
    found = {}
    for secret in secrets.list_secrets()["SecretList"]:
        if "SecretVersionsToStages" in secret:
            value = json.loads(secrets.get_secret_value(SecretId=secret["ARN"])["SecretString"])
            if "password" in value:
                found[secret["Name"]] = value["password"]
    return found


def inventory(address: str) -> set[tuple[str, str, str]]:
    """Service, region and name of everything that the services of INVENTORY have."""
    return {
        (service, region, entry if name is None else entry[name])
        for region in REGIONS
        for service, (call, answer, name) in INVENTORY.items()
        for entry in getattr(terraform.client(service, address, region), call)().get(answer, [])
    }
