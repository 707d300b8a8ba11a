"""Names in the commands of docs/operate: variables, modules, outputs, objects, alerts, settings."""

import re
from pathlib import Path

import pytest
import typer
import typer.main
import yaml

from hearloop import cli
from hearloop.config import Settings
from pipelines import __main__ as pipelines
from serving.settings import ServerSettings
from tests.deploy import hcl
from tests.deploy.objects import Overlay

PAGES = {path.name: path.read_text(encoding="utf-8") for path in Path("docs/operate").glob("*.md")}
TEXT = "\n".join(PAGES.values())
COMMANDS = "\n".join(re.findall(r"^ *```\n(.*?)^ *```", TEXT, flags=re.MULTILINE | re.DOTALL))
ROOTS = ("state", "environments/staging", "environments/production")


def declared(kind: str, path: str) -> set[str]:
    """Names of the variables, outputs or modules of a file."""
    return {name for each in hcl.read(path)[kind] for name in each}


def test_variables_that_are_given_to_terraform_exist() -> None:
    given = set(re.findall(r"-var '?(\w+)=", TEXT))
    known = set().union(*(declared("variable", f"{root}/variables.tf") for root in ROOTS))
    assert len(given) >= 6
    assert given <= known


def test_modules_that_are_targeted_exist() -> None:
    targets = set(re.findall(r"-target=module\.(\w+)", COMMANDS))
    assert targets
    assert targets <= declared("module", "environments/production/main.tf")


def test_outputs_that_are_read_exist() -> None:
    shown = set(re.findall(r"^terraform output (\w+)", COMMANDS, flags=re.MULTILINE))
    known = set().union(*(declared("output", f"{root}/outputs.tf") for root in ROOTS))
    assert "backend" in shown
    assert shown <= known
    assert set(re.findall(r"`edge\.(\w+)`", TEXT)) <= declared("output", "modules/edge/outputs.tf")


def test_secrets_that_are_filled_in_exist() -> None:
    filled = set(re.findall(r"--secret-id hearloop-staging/(\w+)", COMMANDS))
    by_hand = hcl.resource("platform/secrets.tf", "aws_secretsmanager_secret", "filled_in")
    assert filled == set(by_hand["for_each"])


def test_fields_that_are_read_from_them_are_described(staging: Overlay) -> None:
    read = {
        item["remoteRef"]["property"]
        for secret in staging.all("ExternalSecret")
        for item in secret["spec"]["data"]
        if item["remoteRef"]["key"].endswith("/gateway")
    }
    by_hand = hcl.resource("platform/secrets.tf", "aws_secretsmanager_secret", "filled_in")
    described = str(by_hand["for_each"]["gateway"])
    page = PAGES["first-transcription.md"]
    assert len(read) >= 3
    assert {field for field in read if field not in described or f"`{field}`" not in page} == set()


def test_objects_that_kubectl_is_told_of_exist(staging: Overlay) -> None:
    told = set(re.findall(r"\b(?:svc/|deployment |externalsecret )(hearloop[\w-]*)", TEXT))
    told |= set(re.findall(r"\b(hearloop-(?:feedback|monitor)) ", TEXT))
    there = {each["metadata"]["name"] for each in staging.objects}
    assert len(told) >= 4
    assert told <= there


def test_alerts_exist() -> None:
    rules = [yaml.safe_load(path.read_text()) for path in Path("monitoring/rules").glob("*.yaml")]
    known = {
        rule["alert"]
        for each in rules
        for group in each["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    named = set(re.findall(r"`(Hearloop[A-Z]\w+)`", TEXT))
    assert len(named) >= 4
    assert named <= known
    alarms = str(hcl.read("platform/watched.tf")["locals"])
    assert all(f"{name}" in alarms for name in ("failed-uploads", "database-behind"))


def test_settings_exist() -> None:
    known = set(Settings().to_environment()) | {
        f"HEARLOOP_SERVER_{name.upper()}" for name in ServerSettings.model_fields
    }
    named = set(re.findall(r"\b(HEARLOOP_[A-Z0-9_]+)", TEXT))
    assert named
    assert named <= known


@pytest.mark.parametrize(
    ("begins", "app"), [(r"(?:bin/|^|`)hearloop", cli.app), ("-m pipelines", pipelines.app)]
)
def test_options_exist(begins: str, app: typer.Typer) -> None:
    group = typer.main.get_command(app)
    used = re.findall(rf"{begins} ([a-z]+)((?:[^\n&|;`]|\\\n)*)", TEXT, flags=re.MULTILINE)
    assert used
    for name, rest in used:
        command = getattr(group, "commands")[name]  # noqa: B009
        known = {option for each in command.params for option in each.opts}
        assert set(re.findall(r"(?<=\s)(--[a-z-]+)", rest)) <= known, name
