import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from hearloop.errors import NotFound, ServiceUnavailable
from hearloop.recogniser import Recogniser
from tests.bundles import write_random_bundle


class Shelf:
    """A model registry of bundles in folders."""

    def __init__(self, bundles: dict[str, Path]) -> None:
        self.bundles = bundles
        self.crown: str | None = None
        self.away = False

    def champion(self) -> str | None:
        return self.crown

    def fetch(self, version: str, cache: Path) -> Path:
        if self.away:
            raise ServiceUnavailable("The registry is away.")
        if version not in self.bundles:
            raise NotFound(f"No version {version} is registered.")
        return self.bundles[version]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two versions that answer differently."""
    home = tmp_path_factory.mktemp("bundles")
    return {str(seed): write_random_bundle(home / str(seed), seed) for seed in (1, 2)}


@pytest.fixture(scope="session")
def recognisers(bundles: dict[str, Path]) -> dict[str, Recogniser]:
    return {version: Recogniser.load(folder) for version, folder in bundles.items()}


@pytest.fixture
def shelf(bundles: dict[str, Path]) -> Shelf:
    return Shelf(dict(bundles))


@contextmanager
def served(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of the application, which is served on a free port meanwhile."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # connections wait here until the server takes them
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=address, timeout=30.0) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()
