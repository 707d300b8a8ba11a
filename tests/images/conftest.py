"""A Docker daemon, a base and built images for the tests; without Docker they skip, and say why."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.building import Builder, base, secrets
from tests.images.daemon import Docker, buildkit_client, machine_daemon, own_daemon

LAYERS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "hearloop", "docker")
"""Outside of the checkout, because a copy of layers is of no use and takes privileges."""


@pytest.fixture(scope="session")
def client() -> str:
    """Docker's command."""
    found = buildkit_client()
    if found is None:
        pytest.skip("Docker with BuildKit is not installed: apt-get install docker.io")
    return found


@pytest.fixture(scope="session")
def docker(client: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """The machine's daemon, else one of our own, whose layers stay in the user's cache."""
    if platform.machine() != "x86_64":
        pytest.skip(f"the locks are for x86_64, and this machine is {platform.machine()}")
    if found := machine_daemon(client):
        yield found
        return
    with own_daemon(client, LAYERS, tmp_path_factory.mktemp("docker")) as own:
        yield own


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
