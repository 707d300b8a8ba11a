"""Recordings go from a real object store when their time is over, by the operators' command."""

import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from hearloop.audio import Samples
from hearloop.config import Settings
from hearloop.decoding import Transcript
from hearloop.stack import Stack
from hearloop.storage.objects import S3Objects
from hearloop.testing import InMemoryEvents
from serving.caller import Caller
from serving.request_log import Answered, RequestLog
from tests.bundles import noise

pytestmark = pytest.mark.stack

KEPT_DAYS = {"brief": -1, "long": 30}
"""Of each tenant; the first has had its days yesterday."""


@pytest.fixture
def settings(embedded: Stack, object_store: S3Objects) -> Settings:
    """A bucket of recordings of the test's own, as the command deletes whatever is due."""
    bucket = f"audio-{uuid4().hex[:8]}"
    object_store.create_bucket(bucket)
    own = embedded.settings
    return own.model_copy(update={"buckets": own.buckets.model_copy(update={"audio": bucket})})


def answered(request_id: str, tenant: str, samples: Samples, consent: bool = True) -> Answered:
    return Answered(
        caller=Caller(request_id=request_id, tenant=tenant, consent=consent),
        model_version="1",
        samples=samples,
        transcript=Transcript(text="", words=(), confidence=0.0),
        received_at=datetime.now(UTC).isoformat(),
    )


def heard(settings: Settings, answers: Iterable[Answered]) -> None:
    """Logged as by the model server."""
    log = RequestLog(settings, S3Objects(settings), InMemoryEvents(), KEPT_DAYS.__getitem__)
    for one in answers:
        log.put(one)
    assert log.close(60.0) == 0
    assert not any(log.dropped.values())


def expire(settings: Settings) -> str:
    """What `hearloop expire` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "hearloop.cli", "expire"],
        env={**os.environ, **settings.to_environment()},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_the_command_deletes_what_is_due_and_nothing_else(settings: Settings) -> None:
    own, shared = noise(0.2), noise(0.3)
    heard(
        settings,
        [
            answered("due", "brief", own),
            answered("due-but-shared", "brief", shared),
            answered("kept", "long", shared),
            answered("said-no", "long", noise(0.4), consent=False),
        ],
    )
    objects, bucket = S3Objects(settings), settings.buckets.audio

    def left(folder: str) -> list[str]:
        place = f"s3://{bucket}/{folder}/"
        return [uri.removeprefix(place) for uri in objects.list(place)]

    before = left("audio")
    assert len(before) == 2  # the third was never kept
    assert left("requests") == ["due-but-shared.json", "due.json", "kept.json"]
    assert expire(settings) == "1 recordings deleted."
    assert left("requests") == ["kept.json"]
    assert len(left("audio")) == 1
    assert [name.rsplit("/")[-1] for name in left("expiry/days")] == ["kept.json"]
    after = left("audio") + left("expiry/days") + left("expiry/shared")
    assert expire(settings) == "0 recordings deleted."
    assert left("audio") + left("expiry/days") + left("expiry/shared") == after
