"""Terraform: format, validity, and the storage module against the code's buckets."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hearloop.config import Buckets

ROOT = Path(__file__).parents[2] / "terraform"
FOLDERS = ("modules/storage", "environments/staging")
QUICK_TO_GIVE_UP = {
    "CHECKPOINT_DISABLE": "1",
    "TF_REGISTRY_CLIENT_TIMEOUT": "10",
    "TF_REGISTRY_DISCOVERY_RETRY": "0",
}


def terraform(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    environment = os.environ | QUICK_TO_GIVE_UP
    return subprocess.run(
        ["terraform", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_format() -> None:
    done = terraform("fmt", "-check", "-recursive", "-diff", folder=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", FOLDERS)
def test_valid(folder: str, tmp_path: Path) -> None:
    """In a copy: `init` writes beside the files."""
    shutil.copytree(ROOT, tmp_path / "terraform", ignore=shutil.ignore_patterns(".terraform*"))
    place = tmp_path / "terraform" / folder
    ready = terraform("init", "-backend=false", "-input=false", "-no-color", folder=place)
    if "Failed to query available provider packages" in ready.stderr:
        pytest.skip("the AWS provider is neither in a mirror nor to be downloaded")
    assert ready.returncode == 0, ready.stdout + ready.stderr
    done = terraform("validate", "-no-color", folder=place)
    assert done.returncode == 0, done.stdout + done.stderr


def test_buckets_are_those_of_the_settings() -> None:
    main = (ROOT / "modules/storage/main.tf").read_text()
    (listed,) = re.findall(r"buckets = toset\(\[(.*?)\]\)", main)
    assert set(re.findall(r'"(\w+)"', listed)) == set(Buckets.model_fields)


@pytest.mark.parametrize("folder", sorted(path.parent for path in ROOT.rglob("main.tf")))
def test_every_folder_has_its_files(folder: Path) -> None:
    assert {path.name for path in folder.glob("*.tf")} >= {
        "main.tf",
        "outputs.tf",
        "variables.tf",
        "versions.tf",
    }
