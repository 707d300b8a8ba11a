"""The feedback routes over a store and fakes of the ports."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hearloop.audio import Samples
from hearloop.config import Settings
from hearloop.errors import ServiceUnavailable
from hearloop.events import Transcription
from hearloop.feedback import Feedback, request_uri
from hearloop.review_queue import ReviewQueue
from hearloop.storage.corrections import SqlCorrectionStore
from hearloop.storage.tables import engine
from hearloop.testing import InMemoryEvents, InMemoryObjects
from serving import feedback as routes
from serving.feedback import Champion, create_app, learning
from tests.unit.serving.assembled import OPEN, served

CORRECTIONS = "/feedback/v1/corrections"


def unneeded(samples: Samples, texts: Sequence[str]) -> Sequence[float]:
    raise AssertionError("there are too few rivals for anything to be weighed")


def no_reviews() -> ReviewQueue:
    raise AssertionError("nothing here asks for the queue")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/hearloop.db")
    database = engine(settings)
    objects = InMemoryObjects()
    for number in range(3):
        transcription = Transcription(
            event_id=f"e{number}",
            request_id=f"r{number}",
            call="call-1",
            speaker=None,
            model_version="1",
            audio_uri=f"s3://hearloop-audio/audio/{number}.flac",
            audio_seconds=2.0,
            text="pay the bill",
            confidence=0.5,
            words=3,
            received_at="2025-01-01T00:00:00+00:00",
        )
        body = json.dumps(transcription.to_json()).encode()
        objects.put(request_uri(settings.buckets.audio, f"r{number}"), body)
    desk = Feedback(
        settings=settings,
        objects=objects,
        events=InMemoryEvents(),
        store=SqlCorrectionStore(database),
        plausibilities=unneeded,
    )
    with served(create_app(lambda: desk, no_reviews, OPEN, learning(None))) as made:
        yield made
    database.dispose()


def body(**changes: Any) -> dict[str, Any]:
    return {"request_id": "r0", "text": "pay the gas bill", "contributor": "ada"} | changes


def test_new_then_known(client: httpx.Client) -> None:
    first = client.post(CORRECTIONS, json=body())
    assert first.status_code == 201
    assert (first.json()["status"], first.json()["sequence"]) == ("waiting", 1)
    second = client.post(CORRECTIONS, json=body(text="Pay the gas bill."))
    assert second.status_code == 200
    assert second.json() == first.json()
    assert client.get(f"{CORRECTIONS}/{first.json()['id']}").json() == first.json()


def test_untouched_is_confirmed(client: httpx.Client) -> None:
    answer = client.post(CORRECTIONS, json=body(text="Pay the bill!"))
    assert (answer.status_code, answer.json()["status"]) == (201, "confirmed")


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"request_id": "r9"}, 404, "'r9'"),
        ({"text": "..."}, 422, "no words"),
        ({"text": "x" * 2001}, 400, "text"),
        ({"request_id": "../../secrets"}, 400, "request_id"),
        ({"contributor": ""}, 400, "contributor"),
        ({"contributor": "two\nlines"}, 400, "contributor"),
        ({"speaker": "s1"}, 400, "speaker"),
    ],
)
def test_refused_in_one_sentence(
    client: httpx.Client, changes: dict[str, Any], status: int, says: str
) -> None:
    answer = client.post(CORRECTIONS, json=body(**changes))
    assert answer.status_code == status
    assert says in answer.json()["error"]
    assert client.get(CORRECTIONS).json() == {"corrections": [], "next": None}


def test_unknown_correction(client: httpx.Client) -> None:
    answer = client.get(f"{CORRECTIONS}/nothing")
    assert (answer.status_code, "nothing" in answer.json()["error"]) == (404, True)


def test_listed_by_status_and_page(client: httpx.Client) -> None:
    for number in range(3):
        client.post(CORRECTIONS, json=body(request_id=f"r{number}"))
    client.post(CORRECTIONS, json=body(text="pay the bill", contributor="bob"))
    first = client.get(CORRECTIONS, params={"limit": 3, "status": "waiting"}).json()
    assert [one["sequence"] for one in first["corrections"]] == [1, 2, 3]
    rest = client.get(CORRECTIONS, params={"after": first["next"]}).json()
    assert [one["status"] for one in rest["corrections"]] == ["confirmed"]
    assert rest["next"] is None
    assert client.get(CORRECTIONS, params={"status": "perhaps"}).status_code == 400


def test_large_body_is_not_read(client: httpx.Client) -> None:
    answer = client.post(CORRECTIONS, content=b"x" * (routes.LARGEST_BODY + 1))
    assert answer.status_code == 413


def test_health_follows_the_store() -> None:
    def away() -> Feedback:
        raise ServiceUnavailable("The database did not answer.")

    with served(create_app(away, no_reviews, OPEN, learning(None))) as client:
        answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (503, {"error": "The database did not answer."})


class Registry:
    """A registry whose champion can change, and which can be away."""

    def __init__(self) -> None:
        self.version: str | None = None
        self.away = False
        self.fetched: list[str] = []

    def champion(self) -> str | None:
        if self.away:
            raise ServiceUnavailable("MLflow did not answer.")
        return self.version

    def fetch(self, version: str, destination: Path) -> Path:
        self.fetched.append(version)
        return destination / version


class Recogniser:
    """Scores every text by the version of its bundle."""

    def __init__(self, version: int) -> None:
        self._version = version

    @classmethod
    def load(cls, directory: Path) -> "Recogniser":
        return cls(int(directory.name))

    def plausibilities(self, samples: Samples, texts: Sequence[str]) -> Sequence[float]:
        return [-float(self._version)] * len(texts)


def test_champion_follows_the_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(routes, "Recogniser", Recogniser)
    registry, now = Registry(), [0.0]
    champion = Champion(registry, Settings(cache=tmp_path), clock=lambda: now[0])

    def weigh() -> float:
        return champion.plausibilities(np.zeros(1, np.float32), ["a"])[0]

    with pytest.raises(ServiceUnavailable, match="no champion"):
        weigh()
    registry.version, now[0] = "1", 31.0
    assert weigh() == -1.0
    registry.version = "2"
    assert weigh() == -1.0, "asked half a minute ago"
    registry.away, now[0] = True, 62.0
    assert weigh() == -1.0, "the last one serves while the registry is away"
    registry.away, now[0] = False, 93.0
    assert weigh() == -2.0
    assert registry.fetched == ["1", "2"]


def metrics(client: httpx.Client) -> dict[str, float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_tell_how_long_a_correction_has_waited(client: httpx.Client) -> None:
    age = "hearloop_oldest_unreviewed_correction_age_seconds"
    empty = metrics(client)
    assert (empty[age], empty["hearloop_corrections waiting"]) == (0.0, 0.0)
    client.post(CORRECTIONS, json=body(text="Pay the bill!"))
    confirmed = metrics(client)
    assert (confirmed[age], confirmed["hearloop_corrections confirmed"]) == (0.0, 1.0)
    client.post(CORRECTIONS, json=body())
    waiting = metrics(client)
    assert waiting["hearloop_corrections waiting"] == 1.0
    assert 0.0 < waiting[age] < metrics(client)[age]
