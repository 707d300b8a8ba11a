"""Taking corrections, over fakes of the ports and a real store."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hearloop.audio import Samples, encode_flac
from hearloop.config import Settings
from hearloop.corrections import ScreeningPolicy
from hearloop.errors import InvalidTranscript, NotFound, ServiceUnavailable
from hearloop.events import Transcription
from hearloop.feedback import Feedback, request_uri
from hearloop.ports import Event
from hearloop.storage.corrections import SqlCorrectionStore
from hearloop.storage.tables import engine
from hearloop.testing import InMemoryEvents, InMemoryObjects

SAID = (
    "pay the gas bill",
    "call anna tomorrow",
    "book a table",
    "stop the order",
    "find a plumber",
)
"""What is said in request r0, r1, …; the audio of each is a tone of its own loudness."""

POLICY = ScreeningPolicy(minimum_rivals=2, rivals=4)


def tone(number: int) -> Samples:
    return np.full(1600, (number + 1) / 10, np.float32)


class Ear:
    """A recogniser that knows what each tone says; can be away."""

    def __init__(self) -> None:
        self.away = False
        self.passes = 0

    def __call__(self, samples: Samples, texts: Sequence[str]) -> Sequence[float]:
        if self.away:
            raise ServiceUnavailable("The registry has no champion to weigh with yet.")
        self.passes += 1
        said = SAID[round(float(samples[0]) * 10) - 1]
        return [-0.1 if text == said else -4.0 - len(text) / 100 for text in texts]


class UnreliableEvents(InMemoryEvents):
    """An event log that keeps (`queued`) or loses (`losing`) what is published while away."""

    def __init__(self) -> None:
        super().__init__()
        self.queued = 0
        self.losing = False
        self.away = False

    def publish(self, topic: str, key: str, value: Mapping[str, Any]) -> None:
        if self.away:
            self.queued += 1
        elif self.losing:
            self.dropped += 1
        else:
            super().publish(topic, key, value)

    def flush(self, seconds: float) -> int:
        return self.queued


class Room:
    """A Feedback with everything around it."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(database_url=f"sqlite:///{folder}/hearloop.db")
        self.database = engine(self.settings)
        self.objects = InMemoryObjects()
        self.events = UnreliableEvents()
        self.ear = Ear()
        self.store = SqlCorrectionStore(self.database)
        self.feedback = Feedback(
            settings=self.settings,
            objects=self.objects,
            events=self.events,
            store=self.store,
            plausibilities=self.ear,
            policy=POLICY,
        )
        for number in range(len(SAID)):
            self.answer(number)

    def answer(self, number: int) -> None:
        audio_uri = f"s3://hearloop-audio/audio/{number}.flac"
        self.objects.put(audio_uri, encode_flac(tone(number)))
        transcription = Transcription(
            event_id=f"e{number}",
            request_id=f"r{number}",
            call=f"call-{number}",
            speaker=None,
            model_version="1",
            audio_uri=audio_uri,
            audio_seconds=2.0,
            text="hello there",
            confidence=0.5,
            words=2,
            received_at="2025-01-01T00:00:00+00:00",
        )
        body = json.dumps(transcription.to_json()).encode()
        self.objects.put(request_uri("hearloop-audio", f"r{number}"), body)

    def published(self) -> Sequence[Event]:
        topic = self.settings.kafka.corrections_topic
        return self.events.reader("test", [topic]).poll(0)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    made.database.dispose()


def give(room: Room, number: int, text: str | None = None, contributor: str | None = None) -> str:
    stored, _ = room.feedback.take(
        request_id=f"r{number}",
        text=SAID[number] if text is None else text,
        contributor=contributor or f"c{number}",
    )
    room.feedback.catch_up()
    return stored.id


def test_kept_with_what_was_answered(room: Room) -> None:
    stored, new = room.feedback.take(request_id="r0", text="Pay the gas bill.", contributor="ada")
    assert new
    assert (stored.text, stored.hypothesis, stored.call, stored.model_version) == (
        "pay the gas bill",
        "hello there",
        "call-0",
        "1",
    )
    again, new = room.feedback.take(request_id="r0", text="pay the GAS bill", contributor="ada")
    assert not new
    assert again == stored


def test_unknown_request_and_impossible_text(room: Room) -> None:
    with pytest.raises(NotFound, match="'r99'"):
        room.feedback.take(request_id="r99", text="hello", contributor="ada")
    with pytest.raises(InvalidTranscript):
        room.feedback.take(request_id="r0", text="?!", contributor="ada")
    assert room.store.last() == 0


def test_first_ones_are_weighed_when_there_are_rivals(room: Room) -> None:
    ids = [give(room, number) for number in range(2)]
    assert all(room.store.get(one).evidence is None for one in ids)
    ids += [give(room, 2)]
    for one in ids:
        found = room.store.get(one).evidence
        assert found is not None
        assert (found.support, found.rivals) == (1.0, 2)
        assert found.plausibility == pytest.approx(-0.1)
    assert room.ear.passes == 3, "no new rivals, no new weighing"


def test_weighed_again_when_there_are_plenty_of_rivals(room: Room) -> None:
    ids = [give(room, number) for number in range(4)]
    assert room.ear.passes == 4
    ids += [give(room, 4)]
    room.feedback.catch_up()
    weighed = [room.store.get(one).evidence for one in ids]
    assert [one.rivals for one in weighed if one] == [4] * 5
    assert room.ear.passes == 4 + 5, "each once more, the last at once in full"
    room.feedback.catch_up()
    assert room.ear.passes == 4 + 5


def test_wrong_text_does_not_beat_its_rivals(room: Room) -> None:
    for number in range(3):
        give(room, number)
    wrong = room.store.get(give(room, 3, text="find me a good plumber", contributor="eve"))
    assert wrong.evidence is not None
    assert wrong.evidence.support == 0.0
    assert room.store.screen(policy=POLICY)[wrong.id].status == "quarantined"


def test_confirmation_is_not_weighed(room: Room) -> None:
    for number in range(3):
        give(room, number)
    confirmed = room.store.get(give(room, 3, text="Hello there!"))
    assert (confirmed.status, confirmed.evidence) == ("confirmed", None)


def test_damaged_audio_holds_up_no_other_correction(room: Room) -> None:
    room.ear.away = True
    ids = [give(room, number) for number in range(4)]
    room.objects.put("s3://hearloop-audio/audio/0.flac", b"no longer FLAC")
    room.ear.away = False
    room.feedback.catch_up()
    weighed = [room.store.get(one).evidence is not None for one in ids]
    assert weighed == [False, True, True, True]
    assert len(room.published()) == 4


def test_weighed_later_when_the_recogniser_is_away(room: Room) -> None:
    room.ear.away = True
    ids = [give(room, number) for number in range(4)]
    assert all(room.store.get(one).evidence is None for one in ids)
    room.ear.away = False
    room.feedback.catch_up()
    assert all(room.store.get(one).evidence is not None for one in ids)


def test_lost_audio_holds_nobody_up(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    room.ear.away = True
    ids = [give(room, number) for number in range(5)]
    room.ear.away = False
    for number in range(4):
        room.objects.delete(f"s3://hearloop-audio/audio/{number}.flac")
    room.feedback.catch_up()
    room.feedback.catch_up()
    assert [room.store.get(one).evidence is None for one in ids] == [True] * 4 + [False]
    assert "cannot be weighed" in caplog.text


def test_published_once_by_call(room: Room) -> None:
    give(room, 0)
    give(room, 1)
    room.feedback.catch_up()
    events = room.published()
    assert sorted((event.key, event.value["text"]) for event in events) == [
        ("call-0", SAID[0]),
        ("call-1", SAID[1]),
    ]


def test_event_log_away_costs_nothing_but_time(room: Room) -> None:
    room.events.away = True
    give(room, 0)
    give(room, 1)
    assert room.events.queued == 1, "what waits in the queue is not queued again"
    assert len(room.store.unpublished(9)) == 2
    room.events.away = False
    room.events.queued = 0
    room.feedback.catch_up()
    assert len(room.published()) == 2
    assert not room.store.unpublished(9)


def test_what_the_event_log_lost_is_sent_again(room: Room) -> None:
    room.events.losing = True
    give(room, 0)
    assert len(room.store.unpublished(9)) == 1
    room.events.losing = False
    room.feedback.catch_up()
    assert len(room.published()) == 1
