"""The locks hold what constraints.txt says, every file by its hash, and all that is asked for."""

import re
from pathlib import Path

import pytest

from tests.images.building import IMAGES
from tests.images.daemon import ROOT

LOCKS = sorted(path.with_suffix(".txt") for path in IMAGES.glob("*/*.in"))
PINNED = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?P<hashes>( \\\n +--hash=sha256:[0-9a-f]{64})*)$",
    re.MULTILINE,
)
HINT = "images/lock.sh writes the locks anew"

UNCONSTRAINED = {"awslambdaric", "setuptools", "simplejson", "snapshot-restore-py"}
"""Lambda's runtime client with what it needs; and setuptools, which pip freeze leaves out."""


def key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: Path) -> dict[str, str]:
    return {key(one["name"]): one["version"] for one in PINNED.finditer(path.read_text())}


def label(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("lock", LOCKS, ids=label)
def test_versions_are_those_that_the_tests_run_with(lock: Path) -> None:
    constraints = pinned(ROOT / "constraints.txt")
    differing = {
        name: (version, constraints.get(name))
        for name, version in pinned(lock).items()
        if name not in UNCONSTRAINED and constraints.get(name) != version
    }

    assert not differing, HINT


@pytest.mark.parametrize("lock", LOCKS, ids=label)
def test_every_line_is_a_version_with_hashes(lock: Path) -> None:
    text = lock.read_text()

    assert PINNED.sub("", text).strip() == ""
    assert all(one["hashes"] for one in PINNED.finditer(text))


@pytest.mark.parametrize("lock", LOCKS, ids=label)
def test_all_that_is_asked_for_is_there(lock: Path) -> None:
    asked = {
        key(re.match(r"[\w.-]+", line)[0])  # type: ignore[index]
        for line in lock.with_suffix(".in").read_text().splitlines()
        if line and not line.startswith("#")
    }

    assert asked <= pinned(lock).keys(), HINT


def test_only_the_pipeline_s_images_carry_torch() -> None:
    with_torch = {label(lock) for lock in LOCKS if {"torch", "lhotse"} & pinned(lock).keys()}

    assert with_torch == {"pipeline/cuda.txt", "pipeline/requirements.txt"}
    assert "torch" not in pinned(IMAGES / "pipeline" / "requirements.txt")


def test_both_torches_are_of_one_version() -> None:
    version = pinned(IMAGES / "pipeline" / "cuda.txt")["torch"]

    assert pinned(ROOT / "constraints.txt")["torch"] == version
    assert f"torch=={version}+cpu\n" in (IMAGES / "pipeline" / "cpu.txt").read_text()
