"""A base and built images for the tests; what cannot be had from here skips, and says why.

Where no registry of images can be reached, the base is made with `debootstrap`, once.
"""

import configparser
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.images.daemon import APART, ROOT, Docker

__all__ = ["IMAGES", "Builder", "base", "pinned_base", "secrets"]

IMAGES = ROOT / "images"

BASE = "hearloop/base:bookworm"
"""Debian 12 with Python 3.11, as `debootstrap` makes it."""
PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"
UNREAD = ("usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "var/cache/*")
"""Of a Debian that nobody logs in to; Debian's own slim images leave it out too."""

PULL_SECONDS, BUILD_SECONDS, PROBE_SECONDS = 90.0, 900.0, 60.0

CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
INDEX = ("index-url", "extra-index-url", "trusted-host", "proxy")
"""What of pip's configuration a build needs to reach the same packages."""


@dataclass(frozen=True)
class Builder:
    """Builds images as the documentation says; layers are cached."""

    docker: Docker
    base: str
    """Empty for the one that the Dockerfiles name."""
    secrets: tuple[str, ...]

    def build(self, name: str, *options: str, tag: str = "") -> str:
        """Build images/<name>; returns its tag."""
        tag = tag or f"hearloop/{name}:tested"
        base = ["--build-arg", f"BASE_IMAGE={self.base}"] if self.base else []
        built = self.docker(
            *("build", "--network=host", *base, *self.secrets, *options),
            *("-f", str(IMAGES / name / "Dockerfile"), "-t", tag, "."),
            check=False,
            seconds=BUILD_SECONDS,
        )
        if built.returncode != 0 and not index_answers():
            pytest.skip("packages for the images: the package index cannot be reached")
        assert built.returncode == 0, built.stderr[-3000:]
        return tag


def index_answers() -> bool:
    """Whether pip can download anything at all from this machine."""
    with tempfile.TemporaryDirectory() as folder:
        download = ["download", "--no-deps", "--no-cache-dir", "--retries=0", f"--dest={folder}"]
        command = [sys.executable, "-m", "pip", *download, "six"]
        try:
            asked = subprocess.run(command, capture_output=True, timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            return False
    return asked.returncode == 0


def base(docker: Docker, folders: pytest.TempPathFactory) -> str:
    if given := os.environ.get("BASE_IMAGE", ""):
        return given
    if docker("image", "inspect", BASE, check=False).returncode == 0:
        return BASE
    try:
        if docker("pull", pinned_base(), check=False, seconds=PULL_SECONDS).returncode == 0:
            return ""
    except subprocess.TimeoutExpired:
        pass  # a registry that does not answer is none
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        pytest.skip("no registry of images answers, and only root can make a base by debootstrap")
    root = folders.mktemp("base") / "root"
    variant = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root)]
    made = subprocess.run([*APART, *variant], capture_output=True, text=True, timeout=BUILD_SECONDS)
    if made.returncode != 0:
        last = made.stdout.strip().splitlines()[-1:]
        pytest.skip(f"debootstrap cannot make a base here: {' '.join(last)}")
    left_out = [f"--exclude=./{pattern}" for pattern in UNREAD]
    archive = root.with_name("root.tar")
    subprocess.run(["tar", "-C", str(root), *left_out, "-cf", str(archive), "."], check=True)
    docker("import", str(archive), BASE, seconds=BUILD_SECONDS)
    shutil.rmtree(root.parent)
    return BASE


def pinned_base() -> str:
    """The BASE_IMAGE of the Dockerfiles: the same in each."""
    found = {
        line.removeprefix("ARG BASE_IMAGE=")
        for path in IMAGES.glob("*/Dockerfile")
        for line in path.read_text().splitlines()
        if line.startswith("ARG BASE_IMAGE=")
    }
    (base,) = found
    return base


def secrets(folder: Path) -> Sequence[str]:
    """This machine's certificates and package index, for the time of a build."""
    options = []
    given = [os.environ[name] for name in CERTIFICATES if os.environ.get(name)]
    if given and Path(given[0]).is_file():
        options += ["--secret", f"id=ca,src={given[0]}"]
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    index = configparser.ConfigParser(interpolation=None)
    index["global"] = {
        option: value
        for line in listed.splitlines()
        for option, value in [_option(line)]
        if option in INDEX and "file://" not in value
    }
    if index["global"]:
        with (folder / "pip.conf").open("w") as file:
            index.write(file)
        options += ["--secret", f"id=pip.conf,src={folder / 'pip.conf'}"]
    return options


def _option(line: str) -> tuple[str, str]:
    """Name and value of a line of `pip config list`, as in `global.index-url='https://…'`."""
    name, _, value = line.partition("=")
    return name.rpartition(".")[2], value.strip("'\"")
