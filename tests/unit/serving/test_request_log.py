import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from hearloop.audio import decode
from hearloop.config import Settings
from hearloop.decoding import Transcript, Word
from hearloop.errors import ServiceUnavailable
from hearloop.events import Transcription
from hearloop.retention import expire
from hearloop.testing import InMemoryEvents, InMemoryObjects
from serving import request_log
from serving.caller import Caller
from serving.request_log import Answered, RequestLog
from tests.bundles import noise

SETTINGS = Settings()
TOPIC = SETTINGS.kafka.transcriptions_topic


def answered(request_id: str = "r1", seconds: float = 0.5) -> Answered:
    return Answered(
        caller=Caller(request_id=request_id, call="call-7", speaker="anna", tenant="acme"),
        model_version="3",
        samples=noise(seconds),
        transcript=Transcript(
            text="hello",
            words=(Word(text="hello", start_s=0, end_s=1, confidence=0.9),),
            confidence=0.9,
        ),
        received_at=datetime.now(UTC).isoformat(),
    )


@contextmanager
def logging_to(objects: Any, events: Any) -> Iterator[RequestLog]:
    log = RequestLog(SETTINGS, objects, events)
    try:
        yield log
    finally:
        log.close(10.0)


def test_each_tenants_recordings_go_when_its_days_are_over() -> None:
    objects, bucket = InMemoryObjects(), SETTINGS.buckets.audio
    days = {"short": 3, "long": 30}
    log = RequestLog(SETTINGS, objects, InMemoryEvents(), days.__getitem__)
    for number, tenant in enumerate(days):
        one = answered(tenant, seconds=0.1 * (1 + number))
        log.put(replace(one, caller=replace(one.caller, tenant=tenant)))
    log.close(10.0)
    assert expire(objects, bucket, datetime.now(UTC).date() + timedelta(days=5)) == 1
    (record,) = objects.list(f"s3://{bucket}/requests/")
    assert record.endswith("/long.json")
    assert len(list(objects.list(f"s3://{bucket}/audio/"))) == 1


def published(events: InMemoryEvents) -> list[Transcription]:
    return [Transcription.from_json(e.value) for e in events.reader("test", [TOPIC]).poll(0.0)]


def test_audio_record_and_event_tell_the_same_story() -> None:
    objects, events = InMemoryObjects(), InMemoryEvents()
    with logging_to(objects, events) as log:
        log.put(answered())
    (event,) = published(events)
    record = json.loads(objects.get(f"s3://{SETTINGS.buckets.audio}/requests/r1.json"))
    assert Transcription.from_json(record) == event
    assert (event.call, event.speaker, event.model_version) == ("call-7", "anna", "3")
    assert event.tenant == "acme"
    assert (event.text, event.confidence, event.words) == ("hello", 0.9, 1)
    samples = decode(objects.get(event.audio_uri)).samples
    assert np.abs(samples - noise(0.5)).max() < 2**-15
    assert event.audio_seconds == len(samples) / 16_000


def test_the_events_are_keyed_by_call() -> None:
    events = InMemoryEvents()
    with logging_to(InMemoryObjects(), events) as log:
        log.put(answered())
    assert [event.key for event in events.reader("test", [TOPIC]).poll(0.0)] == ["call-7"]


def test_an_answer_given_twice_keeps_its_names() -> None:
    objects, events = InMemoryObjects(), InMemoryEvents()
    with logging_to(objects, events) as log:
        log.put(answered())
        log.put(answered())
    first, second = published(events)
    assert first.event_id == second.event_id
    assert first.audio_uri == second.audio_uri


def test_a_used_request_id_does_not_replace_what_was_answered_to_it() -> None:
    objects = InMemoryObjects()
    with logging_to(objects, InMemoryEvents()) as log:
        log.put(answered(seconds=0.5))
        log.put(answered(seconds=0.6))
    record = json.loads(objects.get(f"s3://{SETTINGS.buckets.audio}/requests/r1.json"))
    assert record["audio_seconds"] == pytest.approx(0.5)


class AwayOnce(InMemoryObjects):
    """Object storage that is away for the first write."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.errors = [error]

    def create(self, uri: str, body: bytes, *, content_type: str = "x/y") -> bool:
        if self.errors:
            raise self.errors.pop()
        return super().create(uri, body, content_type=content_type)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ServiceUnavailable("S3 is away."), "storage"), (RuntimeError("a bug"), "error")],
)
def test_what_cannot_be_stored_is_counted_and_the_next_one_is_logged(
    error: Exception, reason: str
) -> None:
    events = InMemoryEvents()
    with logging_to(AwayOnce(error), events) as log:
        log.put(answered("lost"))
        log.put(answered("kept"))
    assert [event.request_id for event in published(events)] == ["kept"]
    assert log.dropped[reason] == 1
    assert sum(log.dropped.values()) == 1


class Stuck(InMemoryObjects):
    """Object storage that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.answer = threading.Event()

    def create(self, uri: str, body: bytes, *, content_type: str = "x/y") -> bool:
        self.asked.set()
        assert self.answer.wait(30)
        return super().create(uri, body, content_type=content_type)


def test_a_full_queue_drops_and_counts_and_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "QUEUE_SECONDS", 2.0)
    objects, events = Stuck(), InMemoryEvents()
    with logging_to(objects, events) as log:
        log.put(answered("first"))
        assert objects.asked.wait(10)
        for n in range(7):
            log.put(answered(f"r{n}", seconds=0.5))
        assert log.waiting == 4
        assert log.dropped["queue full"] == 3
        objects.answer.set()
    assert {event.request_id for event in published(events)} == {"first", "r0", "r1", "r2", "r3"}


def test_closing_drains_and_says_what_is_left() -> None:
    objects, events = Stuck(), InMemoryEvents()
    log = RequestLog(SETTINGS, objects, events)
    log.put(answered("one"))
    log.put(answered("two"))
    assert objects.asked.wait(10)
    assert log.close(0.0) == 1
    assert log.dropped["shutdown"] == 1
    log.put(answered("late"))
    assert log.dropped["shutdown"] == 2
    objects.answer.set()
    log.close(10.0)
    assert [event.request_id for event in published(events)] == ["one"]


def test_closing_counts_events_that_the_broker_has_not_taken() -> None:
    class Slow(InMemoryEvents):
        def flush(self, seconds: float) -> int:
            return 2

        def publish(self, topic: str, key: str, value: Mapping[str, Any]) -> None:
            raise AssertionError("nothing was answered")

    assert RequestLog(SETTINGS, InMemoryObjects(), Slow()).close(1.0) == 2
