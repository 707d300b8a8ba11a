"""Terraform's files: format, validity, documents, and the names that they share with the code."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hearloop.config import Settings
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


def test_settings_are_those_of_the_code() -> None:
    platform = (TERRAFORM / "platform" / "secrets.tf").read_text(encoding="utf-8")
    passed = set(re.findall(r"^ +(HEARLOOP_\w+) +=", platform, re.M))
    assert passed
    assert passed <= set(Settings().to_environment())
