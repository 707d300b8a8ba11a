"""Each Dockerfile is what a careful reader expects, whether or not this machine can build it."""

import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest

from tests.images.building import IMAGES, pinned_base
from tests.images.daemon import ROOT

DOCKERFILES = sorted(IMAGES.glob("*/Dockerfile"))
SCRIPTS = [*sorted(IMAGES.glob("*.sh")), ROOT / ".ci" / "run"]


def tool(name: str) -> str:
    """A linter of the development environment."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install -e '.[dev]'")
    return found


def name(path: Path) -> str:
    return path.parent.name if path.name == "Dockerfile" else path.name


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_hadolint_finds_nothing(path: Path) -> None:
    done = subprocess.run([tool("hadolint"), str(path)], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_shellcheck_finds_nothing(path: Path) -> None:
    done = subprocess.run([tool("shellcheck"), str(path)], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


def test_there_is_an_image_for_each_part() -> None:
    assert {name(path) for path in DOCKERFILES} == {"functions", "monitor", "pipeline", "serving"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_the_commands_of_the_manual_build_this_release(path: Path) -> None:
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    text = path.read_text()
    commands = re.findall(r"^#   (docker build .+)$", text, re.MULTILINE)
    manual = (ROOT / "docs" / "operate" / "images.md").read_text().splitlines()

    assert re.findall(r'image\.version="(.+)"', text) == [release]
    assert commands
    for command in commands:
        assert command in manual
        assert re.search(rf" -t hearloop/{name(path)}(-cuda)?:{re.escape(release)} \.$", command)


def test_the_base_is_one_and_pinned_by_digest() -> None:
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", pinned_base())


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_the_last_stage_has_a_numeric_user_and_neither_compiler_nor_pip(path: Path) -> None:
    last = re.split(r"^FROM ", path.read_text(), flags=re.MULTILINE)
    final = "".join(stage for stage in last if re.search(r"^USER ", stage, re.MULTILINE))

    assert re.findall(r"^USER (.+)$", final, re.MULTILINE) == ["10001:10001"]
    assert not re.search(r"^(RUN|ADD) ", final, re.MULTILINE), "files come from earlier stages"
    assert "HEALTHCHECK" in final


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_only_what_is_listed_enters_the_context(path: Path) -> None:
    everything, *listed = path.with_name("Dockerfile.dockerignore").read_text().splitlines()

    assert everything == "*"
    for line in listed:
        if line.startswith("!"):
            assert list(ROOT.glob(line[1:])), f"{line} lets nothing in"


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_no_secret_stays_in_a_layer(path: Path) -> None:
    text = path.read_text()

    assert not re.search(r"(ARG|ENV)\s+\S*(TOKEN|PASSWORD|SECRET|KEY|CERT)", text, re.IGNORECASE)
    assert "--mount=type=secret,id=ca" in text
    assert "--mount=type=secret,id=pip.conf" in text
