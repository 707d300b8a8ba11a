"""checkov over the Terraform files: nothing found, or a reason beside what was found.

checkov pins versions that the platform's own libraries cannot live with, so it has a virtual
environment of its own, build/checkov, which the first run makes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.terraform_moto import TERRAFORM

VERSION = "3.3.30"
HOME = TERRAFORM.parent / "build" / "checkov"
SHORTEST_REASON = 20  # characters: "not needed" is no reason

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """checkov's report; it has no severities without an account, so that everything counts."""
    where = ["--directory", str(TERRAFORM), "--framework", "terraform"]
    done = subprocess.run(
        [str(installed()), *where, "--output", "json", "--skip-download", "--compact"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LOG_LEVEL": "ERROR"},
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def installed() -> Path:
    """checkov, installed on the first run."""
    checkov = HOME / "bin" / "checkov"
    mark = HOME / f"installed-{VERSION}"
    if not mark.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", HOME], check=True)
        pip = [str(HOME / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [*pip, f"checkov=={VERSION}"], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"checkov {VERSION} could not be installed from the package index")
        mark.touch()
    return checkov


def test_nothing_is_found_without_a_reason(found: dict[str, Any]) -> None:
    failed = {
        f"{each['check_id']} {each['file_path']}: {each['resource']}"
        for each in found["results"]["failed_checks"]
    }
    assert not failed
    assert found["summary"]["passed"] > 500


def test_reasons_are_reasons(found: dict[str, Any]) -> None:
    skipped = found["results"]["skipped_checks"]
    assert skipped
    for each in skipped:
        reason = each["check_result"]["suppress_comment"]
        assert len(reason) >= SHORTEST_REASON, f"{each['check_id']} in {each['file_path']}"


def test_every_file_could_be_read(found: dict[str, Any]) -> None:
    assert found["results"].get("parsing_errors", []) == []
