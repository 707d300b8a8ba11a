"""The routes of the review queue, over a store and fakes of the ports."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from hearloop import composition
from hearloop.audio import Samples, encode_flac
from hearloop.config import Settings
from hearloop.errors import ServiceUnavailable
from hearloop.events import Transcription
from hearloop.feedback import Feedback
from hearloop.ports import Event
from hearloop.review_queue import ReviewQueue
from hearloop.storage.corrections import SqlCorrectionStore
from hearloop.storage.reviews import SqlReviewStore
from hearloop.storage.tables import engine
from hearloop.testing import InMemoryEvents, InMemoryObjects
from serving import review
from serving.feedback import create_app, learning
from tests.bundles import noise
from tests.unit.serving.assembled import OPEN, refusal, served

QUEUE = "/feedback/v1/queue"
FLAC = encode_flac(noise(1.0))


def event(number: int, confidence: float) -> dict[str, Any]:
    return Transcription(
        event_id=f"e{number}",
        request_id=f"r{number}",
        call=f"call-{number}",
        speaker=None,
        model_version="1",
        audio_uri=f"s3://bucket/audio/{number}.flac",
        audio_seconds=2.0,
        text=("pay the bill", "call anna", "transfer twenty pounds")[number],
        confidence=confidence,
        words=3,
        received_at="2025-01-01T00:00:00+00:00",
    ).to_json()


SHORT_SILENCE = event(0, 0.0) | {"request_id": "r8", "text": "", "audio_seconds": 0.1}


@dataclass
class Weigher:
    """Says how far each text is off, and what it was asked."""

    away: bool = False
    asked: list[str] = field(default_factory=list)

    def __call__(self, samples: Samples, texts: Sequence[str]) -> Sequence[float]:
        if self.away:
            raise ServiceUnavailable("No model is in service yet.")
        self.asked += texts
        return [-2.0 for _ in texts]


@dataclass
class Desk:
    client: httpx.Client
    reviews: ReviewQueue
    weigher: Weigher
    objects: InMemoryObjects


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/hearloop.db")
    database, objects, weigher = engine(settings), InMemoryObjects(), Weigher()
    feedback = Feedback(
        settings=settings,
        objects=objects,
        events=InMemoryEvents(),
        store=SqlCorrectionStore(database),
        plausibilities=weigher,
    )
    reviews = ReviewQueue(objects=objects, store=SqlReviewStore(database), plausibilities=weigher)
    events = [event(0, 0.9), event(1, 0.2), event(2, 0.5)]
    reviews.enrol(
        Event(topic="t", partition=0, offset=at, key="", value=value)
        for at, value in enumerate([{"text": "no event"}, SHORT_SILENCE, *events])
    )
    for number in range(2):
        objects.put(f"s3://bucket/audio/{number}.flac", FLAC)
    with served(create_app(lambda: feedback, lambda: reviews, OPEN, learning(None))) as client:
        yield Desk(client, reviews, weigher, objects)
    database.dispose()


def queue(desk: Desk, contributor: str = "ada", **parameters: Any) -> list[str]:
    answer = desk.client.get(QUEUE, params={"contributor": contributor, **parameters})
    assert answer.status_code == 200, answer.text
    return [one["request_id"] for one in answer.json()["utterances"]]


def test_the_most_doubtful_comes_first_with_its_reason(desk: Desk) -> None:
    answer = desk.client.get(QUEUE, params={"contributor": "ada"}).json()
    assert answer["waiting"] == 3
    first = answer["utterances"][0]
    assert (first["request_id"], first["text"], first["reason"]) == ("r1", "call anna", "doubtful")
    assert first["doubt"] == pytest.approx(0.8)
    assert queue(desk, limit=1) == ["r1"]


def test_a_claim_is_kept_and_a_skip_offers_it_to_others(desk: Desk) -> None:
    claimed = desk.client.post(f"{QUEUE}/r1/claim", json={"contributor": "ada"})
    assert claimed.status_code == 200
    assert claimed.json()["claimed_until"] is not None
    assert queue(desk, "bob") == ["r2", "r0"]
    refused = desk.client.post(f"{QUEUE}/r1/claim", json={"contributor": "bob"})
    assert (refused.status_code, "'r1'" in refusal(refused)) == (409, True)
    assert desk.client.post(f"{QUEUE}/r1/skip", json={"contributor": "ada"}).status_code == 204
    assert (queue(desk, "ada"), queue(desk, "bob")) == (["r2", "r0"], ["r1", "r2", "r0"])


def test_the_recording_can_be_heard(desk: Desk) -> None:
    answer = desk.client.get(f"{QUEUE}/r1/audio")
    assert (answer.headers["content-type"], answer.content) == ("audio/flac", FLAC)
    assert desk.client.get(f"{QUEUE}/r2/audio").status_code == 404
    assert desk.client.get(f"{QUEUE}/r9/audio").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"{QUEUE}?contributor=../etc", None),
        ("GET", f"{QUEUE}?contributor=ada&limit=0", None),
        ("GET", QUEUE, None),
        ("POST", f"{QUEUE}/r1/claim", {"contributor": ""}),
        ("POST", f"{QUEUE}/%00/claim", {"contributor": "ada"}),
        ("POST", f"{QUEUE}/r1/skip", {}),
    ],
)
def test_refused_in_one_sentence(desk: Desk, method: str, path: str, body: object) -> None:
    answer = desk.client.request(method, path, json=body)
    assert answer.status_code == 400
    assert refusal(answer)


def test_the_version_in_service_raises_the_doubt(desk: Desk) -> None:
    assert desk.reviews.ask()
    assert desk.weigher.asked == ["call anna"]
    first = desk.client.get(QUEUE, params={"contributor": "ada"}).json()["utterances"][0]
    assert first["doubt"] == pytest.approx(1 - 0.2 * 0.1353, abs=1e-3)
    assert desk.reviews.ask()  # the recording of r2 is lost: it is not asked about again
    desk.weigher.away = True
    assert not desk.reviews.ask()
    desk.weigher.away = False
    assert desk.reviews.ask()
    assert not desk.reviews.ask()
    assert desk.weigher.asked == ["call anna", "pay the bill"]


def test_the_intake_reads_the_event_log(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = InMemoryEvents()
    settings = Settings()
    monkeypatch.setattr(
        composition,
        "event_reader",
        lambda _, group, topics: events.reader(group, topics),
    )
    monkeypatch.setattr(review, "POLL_SECONDS", 0.01)
    database = engine(Settings(database_url=f"sqlite:///{tmp_path}/other.db"))
    reviews = ReviewQueue(
        objects=desk.objects, store=SqlReviewStore(database), plausibilities=desk.weigher
    )
    away = threading.Event()
    away.set()

    def perhaps() -> ReviewQueue:
        if away.is_set():
            raise ServiceUnavailable("The database is away.")
        return reviews

    events.publish(settings.kafka.transcriptions_topic, "call-1", event(1, 0.2))
    with review.intake(settings, perhaps):
        away.clear()
        deadline = time.monotonic() + 10
        while not reviews.list("ada", 5)[0]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert [one.utterance["request_id"] for one in reviews.list("ada", 5)[0]] == ["r1"]
    database.dispose()
