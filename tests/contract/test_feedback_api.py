"""The feedback routes hold what their OpenAPI document says, whatever is sent to them.

Schemathesis draws requests from the document, good and bad, alone and one after the other; its
command line runs, because its plugin does not know pytest 9.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fastapi import FastAPI

from hearloop.audio import Samples, encode_flac
from hearloop.config import Settings
from hearloop.events import Transcription
from hearloop.feedback import Feedback, request_uri
from hearloop.ports import Event
from hearloop.review_queue import ReviewQueue
from hearloop.storage.corrections import SqlCorrectionStore
from hearloop.storage.reviews import SqlReviewStore
from hearloop.storage.tables import engine
from hearloop.testing import InMemoryEvents, InMemoryObjects
from serving.feedback import create_app, learning
from tests.bundles import noise
from tests.unit.serving.assembled import OPEN, served

DOCUMENT = "/feedback/openapi.json"


def even(samples: Samples, texts: Sequence[str]) -> Sequence[float]:
    return [-1.0 for _ in texts]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """The standalone service with one answered utterance, `r1`."""
    home: Path = tmp_path_factory.mktemp("feedback")
    chosen = Settings(database_url=f"sqlite:///{home}/hearloop.db")
    database, objects = engine(chosen), InMemoryObjects()
    answered = Transcription(
        event_id="e1", request_id="r1", call="call-1", speaker=None, model_version="1",
        audio_uri="s3://bucket/audio/1.flac", audio_seconds=1.0, text="pay the bill",
        confidence=0.5, words=3, received_at="2025-01-01T00:00:00+00:00",
    ).to_json()  # fmt: skip
    objects.put("s3://bucket/audio/1.flac", encode_flac(noise(1.0)))
    objects.put(request_uri(chosen.buckets.audio, "r1"), json.dumps(answered).encode())
    reviews = ReviewQueue(objects=objects, store=SqlReviewStore(database), plausibilities=even)
    reviews.enrol([Event(topic="t", partition=0, offset=0, key="call-1", value=answered)])
    feedback = Feedback(
        settings=chosen,
        objects=objects,
        events=InMemoryEvents(),
        store=SqlCorrectionStore(database),
        plausibilities=even,
    )
    yield create_app(lambda: feedback, lambda: reviews, OPEN, learning(None))
    database.dispose()


BEYOND_THE_DOCUMENT = "positive_data_acceptance,unsupported_method"
"""Checks that do not hold here: which texts are transcripts no schema can say, so that some that
fit it get 422; and the gate answers a method that no route has with 404, not 405."""


def test_every_answer_is_in_the_document(service: FastAPI, tmp_path: Path) -> None:
    with served(service) as client:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")), "run",
                f"{client.base_url}{DOCUMENT}", "--max-examples=25", "--seed=1", "--no-color",
                "--workers=1", "--generation-database=none",
                f"--exclude-checks={BEYOND_THE_DOCUMENT}",
            ],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr


def test_the_document_names_every_route(service: FastAPI) -> None:
    with served(service) as client:
        paths = client.get(DOCUMENT).json()["paths"]
    assert set(paths) == {
        "/feedback/v1/corrections",
        "/feedback/v1/corrections/{correction_id}",
        "/feedback/v1/queue",
        "/feedback/v1/queue/{request_id}/claim",
        "/feedback/v1/queue/{request_id}/skip",
        "/feedback/v1/queue/{request_id}/audio",
    }
