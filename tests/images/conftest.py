"""A Docker daemon, a base and built images for the tests; without Docker they skip, and say why."""

import os
import platform
import shutil
from collections.abc import Iterator

import pytest

from tests.images.building import Builder, Docker, base, buildkit_client, own_daemon, secrets


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """The machine's daemon, else one of our own."""
    client = buildkit_client()
    if client is None:
        pytest.skip("Docker with BuildKit is not installed: apt-get install docker.io")
    if platform.machine() != "x86_64":
        pytest.skip(f"the locks are for x86_64, and this machine is {platform.machine()}")
    if (default := Docker(client, "")).answers():
        yield default
        return
    daemon = shutil.which("dockerd")
    if daemon is None or os.geteuid() != 0:
        pytest.skip("no Docker daemon answers, and only root can start one where dockerd is")
    yield from own_daemon(daemon, client, tmp_path_factory.mktemp("docker"))


@pytest.fixture(scope="session")
def builder(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Builds on the base of the Dockerfiles where it can be had, else on one of debootstrap's."""
    folder = tmp_path_factory.mktemp("secrets")
    return Builder(docker, base(docker, tmp_path_factory), tuple(secrets(folder)))


@pytest.fixture(scope="session")
def serving_image(builder: Builder) -> str:
    return builder.build("serving")


@pytest.fixture(scope="session")
def functions_image(builder: Builder) -> str:
    return builder.build("functions")
