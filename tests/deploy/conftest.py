"""The overlays as they are built and the environments as they are applied, for every test."""

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from k8s import check
from tests.deploy.objects import Overlay
from tests.deploy.terraform_lives import ENVIRONMENTS, Life, live

Lives = dict[str, Future[Life]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for the environments comes last: they take minutes, mostly of waiting."""
    items.sort(key=_waits)


@pytest.fixture(scope="session", autouse=True)
def begun(request: pytest.FixtureRequest) -> None:
    """The environments begin before the first test, if any test looks at them."""
    if shutil.which("terraform") and any(_waits(item) for item in request.session.items):
        request.getfixturevalue("lives")


@pytest.fixture(scope="session")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    """Each environment in an account of its own, beside the other ones and the other tests."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    with ThreadPoolExecutor(max_workers=len(ENVIRONMENTS)) as pool:
        yield {
            name: pool.submit(live, name, tmp_path_factory.mktemp(name)) for name in ENVIRONMENTS
        }


def _waits(item: pytest.Item) -> bool:
    return "lives" in getattr(item, "fixturenames", ())


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
def standby() -> Overlay:
    return built("production-standby")


@pytest.fixture(scope="session", params=["staging", "production", "production-standby"])
def cloud(request: pytest.FixtureRequest) -> Overlay:
    """The overlays that Terraform makes room for, in turn."""
    return built(request.param)


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
