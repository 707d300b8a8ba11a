from collections.abc import Iterator
from pathlib import Path

import pytest

from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from tests.bundles import write_random_bundle
from tests.unit.serving.assembled import Server, Shelf, assembled, heard


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """What coroutines of tests run in."""
    return "asyncio"


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two versions that answer differently."""
    home = tmp_path_factory.mktemp("bundles")
    return {str(seed): write_random_bundle(home / str(seed), seed) for seed in (1, 2)}


@pytest.fixture(scope="session")
def recognisers(bundles: dict[str, Path]) -> dict[str, Recogniser]:
    return {version: Recogniser.load(folder) for version, folder in bundles.items()}


@pytest.fixture(scope="session")
def expected(recognisers: dict[str, Recogniser]) -> dict[str, str]:
    """What each version answers to `FLAC`."""
    return {version: one.transcribe(heard()).text for version, one in recognisers.items()}


@pytest.fixture
def shelf(bundles: dict[str, Path]) -> Shelf:
    return Shelf(dict(bundles))


@pytest.fixture
def server(tmp_path: Path, shelf: Shelf) -> Iterator[Server]:
    """A server without a model."""
    with assembled(tmp_path, shelf) as server:
        yield server


@pytest.fixture
def serving(server: Server, recognisers: dict[str, Recogniser]) -> Server:
    """A server with version 1 in service."""
    server.versions.swap(Traffic(stable="1"), recognisers)
    return server
