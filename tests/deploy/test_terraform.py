"""Terraform's files: format, validity, documents, and the names that they share with the code."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hearloop.config import Settings
from tests.deploy import hcl
from tests.deploy import terraform_runs as terraform
from tests.deploy.terraform_moto import TERRAFORM

ROOTS = ("environments/staging", "environments/production", "state")
FOLDERS = sorted(path.parent for path in TERRAFORM.rglob("main.tf"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the repository: `init` writes beside them."""
    folder = tmp_path_factory.mktemp("terraform") / "terraform"
    shutil.copytree(TERRAFORM, folder, ignore=shutil.ignore_patterns(".terraform*"))
    return folder


def test_format() -> None:
    terraform.succeed(TERRAFORM, "fmt", "-check", "-recursive", "-diff")


@pytest.mark.parametrize("root", ROOTS)
def test_valid(root: str, copy: Path) -> None:
    terraform.initialise(copy / root, "-backend=false")
    terraform.succeed(copy / root, "validate", "-no-color")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_folder_has_its_files(folder: Path) -> None:
    assert {path.name for path in folder.glob("*.tf")} >= {
        "main.tf",
        "outputs.tf",
        "variables.tf",
        "versions.tf",
    }


def test_readmes_say_what_the_files_say() -> None:
    done = subprocess.run(
        [sys.executable, TERRAFORM / "readme.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("root", ROOTS[:2])
def test_the_state_is_remote_encrypted_and_locked(root: str) -> None:
    backend = (TERRAFORM / root / "versions.tf").read_text(encoding="utf-8")
    assert re.search(r'backend "s3" \{[^}]*encrypt += true[^}]*use_lockfile += true', backend)


@pytest.mark.parametrize("environment", ROOTS[:2])
def test_what_an_operator_gives_is_validated(environment: str) -> None:
    unchecked = [
        name
        for name, said in _variables(TERRAFORM / environment)
        if said["type"] != "bool" and not _validated(TERRAFORM / environment, name)
    ]
    assert unchecked == []


def _validated(folder: Path, name: str) -> bool:
    """Whether a variable has a validation, or a variable that it is passed on to has one."""
    (said,) = (said for found, said in _variables(folder) if found == name)
    if "validation" in said:
        return all(each["error_message"] for each in said["validation"])
    calls = [
        (folder / call["source"], argument)
        for path in folder.glob("*.tf")
        for module in hcl.read(str(path.relative_to(TERRAFORM))).get("module", ())
        for call in module.values()
        for argument, value in call.items()
        if value == f"${{var.{name}}}"
    ]
    return any(_validated(called, argument) for called, argument in calls)


def _variables(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    path = folder.resolve().relative_to(TERRAFORM.resolve()) / "variables.tf"
    return [pair for each in hcl.read(str(path))["variable"] for pair in each.items()]


def test_settings_are_those_of_the_code() -> None:
    platform = (TERRAFORM / "platform" / "secrets.tf").read_text(encoding="utf-8")
    passed = set(re.findall(r"^ +(HEARLOOP_\w+) +=", platform, re.M))
    assert passed
    assert passed <= set(Settings().to_environment())
