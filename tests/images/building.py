"""A Docker daemon, a base and built images for the tests; without Docker they skip, and say why.

Docker is Debian's `docker.io`. Where no daemon answers, root has one of its own for as long as the
tests run; its layers stay in the user's cache. Where no registry of images can be reached, the
base is made with `debootstrap`, once.
"""

import configparser
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = [
    "IMAGES",
    "ROOT",
    "Builder",
    "Docker",
    "base",
    "buildkit_client",
    "own_daemon",
    "pinned_base",
    "secrets",
]

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "images"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "hearloop")

BASE = "hearloop/base:bookworm"
"""Debian 12 with Python 3.11, as `debootstrap` makes it."""
PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"
UNREAD = ("usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "var/cache/*")
"""Of a Debian that nobody logs in to; Debian's own slim images leave it out too."""

START_SECONDS, PULL_SECONDS = 60.0, 90.0
BUILD_SECONDS = 900.0

CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
INDEX = ("index-url", "extra-index-url", "trusted-host", "proxy")
"""What of pip's configuration a build needs to reach the same packages."""


@dataclass(frozen=True)
class Docker:
    """A client and the daemon that it talks to."""

    client: str
    host: str
    """As in DOCKER_HOST; empty for the client's own default."""

    def __call__(
        self, *arguments: str, check: bool = True, seconds: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; fails with what it said."""
        done = subprocess.run(
            [self.client, *arguments],
            env=os.environ
            | {"DOCKER_BUILDKIT": "1"}
            | ({"DOCKER_HOST": self.host} if self.host else {}),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments[0]}: {done.stderr[-3000:]}"
        return done

    def answers(self) -> bool:
        """Whether the daemon does."""
        return self("info", check=False).returncode == 0


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
        self.docker(
            *("build", "--network=host", *base, *self.secrets, *options),
            *("-f", str(IMAGES / name / "Dockerfile"), "-t", tag, "."),
            seconds=BUILD_SECONDS,
        )
        return tag


def buildkit_client() -> str | None:
    """A client that speaks BuildKit: by buildx, or one from before 23.0, which has it built in."""
    for client in (shutil.which("docker"), "/usr/bin/docker"):
        if client and Path(client).exists():
            shown = subprocess.run([client, "--version"], capture_output=True, text=True).stdout
            old = shown.removeprefix("Docker version ").partition(".")[0]
            plugin = subprocess.run([client, "buildx", "version"], capture_output=True)
            if plugin.returncode == 0 or (old.isdecimal() and int(old) < 23):
                return client
    return None


def own_daemon(daemon: str, client: str, home: Path) -> Iterator[Docker]:
    """A daemon without bridge and firewall rules: builds and containers use the host's network."""
    own = Docker(client, f"unix://{home}/docker.sock")
    command = [daemon, "--host", own.host, "--data-root", str(CACHE / "docker")]
    command += ["--exec-root", str(home / "exec"), "--pidfile", str(home / "docker.pid")]
    with (home / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--bridge=none", "--iptables=false"], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not own.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                last = (home / "dockerd.log").read_text().strip().splitlines()[-1:]
                pytest.skip(f"dockerd does not start here: {' '.join(last)[-300:]}")
            time.sleep(0.2)
        yield own
    finally:
        process.terminate()
        process.wait(60)


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
    subprocess.run(variant, check=True, stdout=subprocess.DEVNULL, timeout=BUILD_SECONDS)
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
