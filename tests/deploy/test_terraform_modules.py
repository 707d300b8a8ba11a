"""`terraform test` of every module that has assertions: what matters, with AWS mocked."""

import re
import shutil
from pathlib import Path

import pytest

from tests.deploy import terraform_runs as terraform
from tests.deploy.terraform_moto import ABSENT, FORGOTTEN, TERRAFORM, Absent, Forgotten

TESTED = sorted(path.parents[1] for path in TERRAFORM.rglob("*.tftest.hcl"))

UNMOCKED = {"secret"}
"""mock_provider has no ephemeral resources (Terraform 1.11): what they do is seen in the apply.
Environments and platform call the modules, secrets among them, and are applied."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the repository: `init` writes beside them."""
    folder = tmp_path_factory.mktemp("terraform") / "terraform"
    shutil.copytree(TERRAFORM, folder, ignore=shutil.ignore_patterns(".terraform*"))
    return folder


@pytest.mark.parametrize("module", TESTED, ids=lambda module: module.name)
def test_assertions_hold(module: Path, copy: Path) -> None:
    place = copy / module.relative_to(TERRAFORM)
    terraform.initialise(place)
    printed = terraform.succeed(place, "test", "-no-color")
    assert re.search(r"Success! [1-9]\d* passed, 0 failed", printed), printed


def test_every_module_is_tested() -> None:
    modules = {path.parent.name for path in TERRAFORM.glob("modules/*/main.tf")}
    assert {module.name for module in TESTED} == (modules | {"state"}) - UNMOCKED


@pytest.mark.parametrize("absent", ABSENT, ids=lambda absent: absent.resources[0])
def test_what_moto_lacks_is_asserted_with_a_mock(absent: Absent) -> None:
    folder = TERRAFORM / absent.folder
    asserted = "".join(path.read_text(encoding="utf-8") for path in folder.glob("tests/*.hcl"))
    for resource in absent.resources:
        assert f"{resource}." in asserted, f"nothing is asserted about {resource}"


@pytest.mark.parametrize("forgotten", FORGOTTEN, ids=lambda forgotten: forgotten.resource)
def test_what_moto_forgets_is_asserted_with_a_mock(forgotten: Forgotten) -> None:
    declaring = [
        folder
        for folder in {path.parent for path in TERRAFORM.rglob("main.tf")}
        if any(f'resource "{forgotten.resource}"' in text for text in _texts(folder, "*.tf"))
    ]
    assert declaring
    if {folder.name for folder in declaring} != UNMOCKED | {"platform"}:
        asserted = "".join(text for folder in declaring for text in _texts(folder, "tests/*.hcl"))
        assert f"{forgotten.resource}." in asserted


def _texts(folder: Path, pattern: str) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in folder.glob(pattern)]
