"""Real services for the tests: one embedded stack a session, each service started when first asked.

The stack has a home and ports of its own, so tests run beside `make up`. Tests share it: they
use names (buckets' prefixes, topics' keys, experiments) of their own.
"""

import gc
import os
from collections.abc import Iterator

import pytest

from hearloop.config import Settings
from hearloop.stack import Ports, Stack
from hearloop.storage.objects import S3Objects

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"


@pytest.fixture(autouse=True)
def collected(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test may leave open is closed before the next one, which has no leave to do so."""
    yield
    ignored = [str(mark.args) for mark in request.node.iter_markers("filterwarnings")]
    if any("ResourceWarning" in one or "PytestUnraisable" in one for one in ignored):
        gc.collect()


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The session's stack with nothing started yet: `embedded.up("events")` starts a service."""
    stack = Stack(tmp_path_factory.mktemp("stack"), ports=Ports.free())
    yield stack
    stack.down()


@pytest.fixture(scope="session")
def object_store(embedded: Stack) -> S3Objects:
    """Object storage on SeaweedFS; the buckets of `embedded.settings.buckets` exist."""
    embedded.up("objects")
    return S3Objects(embedded.settings)


@pytest.fixture(scope="session")
def broker(embedded: Stack) -> Settings:
    """Settings of a running Kafka broker; the topics of the settings exist."""
    embedded.up("events")
    return embedded.settings


@pytest.fixture(scope="session")
def tracking(embedded: Stack) -> Settings:
    """Settings of a running MLflow server whose artifacts are kept in object storage."""
    embedded.up("objects", "tracking")
    return embedded.settings


@pytest.fixture(scope="session")
def stack(embedded: Stack) -> Stack:
    """The whole stack, model server and monitor included."""
    embedded.up()
    return embedded
