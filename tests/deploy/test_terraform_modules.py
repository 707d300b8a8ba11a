"""`terraform test` of every module that has assertions: what matters, with AWS mocked."""

import re
import shutil
from pathlib import Path

import pytest

from tests.deploy import terraform_runs as terraform
from tests.deploy.terraform_moto import ABSENT, FORGOTTEN, TERRAFORM, Absent

TESTED = sorted(path.parents[1] for path in TERRAFORM.glob("modules/*/tests/*.tftest.hcl"))

UNMOCKED = {"secret"}
"""mock_provider has no ephemeral resources (Terraform 1.11): what they do is seen in the apply."""


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
    assert {module.name for module in TESTED} == modules - UNMOCKED


@pytest.mark.parametrize("absent", ABSENT, ids=lambda absent: absent.resources[0])
def test_what_moto_lacks_is_asserted_with_a_mock(absent: Absent) -> None:
    folder = TERRAFORM / absent.folder
    asserted = "".join(path.read_text(encoding="utf-8") for path in folder.glob("tests/*.hcl"))
    for resource in absent.resources:
        assert f"{resource}." in asserted, f"nothing is asserted about {resource}"


def test_the_list_of_what_moto_forgets_names_resources_that_are_there() -> None:
    declared = "".join(
        path.read_text(encoding="utf-8") for path in TERRAFORM.glob("modules/*/*.tf")
    )
    assert all(f'resource "{each.resource}"' in declared for each in FORGOTTEN)
