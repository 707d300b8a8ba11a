"""The overlays as they are built, for every test of the manifests."""

import shutil
from pathlib import Path

import pytest

from k8s import check
from tests.deploy.objects import Overlay


@pytest.fixture(scope="session", params=check.OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Overlay:
    """Each overlay in turn."""
    return built(request.param)


@pytest.fixture(scope="session")
def local() -> Overlay:
    return built("local")


@pytest.fixture(scope="session")
def staging() -> Overlay:
    return built("staging")


@pytest.fixture(scope="session")
def production() -> Overlay:
    return built("production")


@pytest.fixture(scope="session")
def schemas() -> Path:
    """The folder with the schemas of custom resources."""
    folder = check.folder_of_schemas()
    if folder is None:
        pytest.skip("no schemas of custom resources: HEARLOOP_CRD_SCHEMAS names none")
    return folder


def built(name: str) -> Overlay:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: it builds the overlays")
    return Overlay(name, check.build(name))
