"""What every EventLog and EventReader promises, held by the fake and by Kafka alike."""

import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from hearloop.config import Settings
from hearloop.ports import Event, EventLog, EventReader
from hearloop.storage.events import KafkaEventLog, KafkaEventReader
from hearloop.testing import InMemoryEvents

ARRIVAL_SECONDS = 30.0
"""A consumer group takes about 3 s to form on an idle machine."""

Reader = Callable[[str], EventReader]


@pytest.fixture
def topic() -> str:
    return f"contract.{uuid4().hex}"


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.stack)])
def log_and_reader(request: pytest.FixtureRequest, topic: str) -> Iterator[tuple[EventLog, Reader]]:
    if request.param == "memory":
        events = InMemoryEvents()
        yield events, lambda group: events.reader(group, [topic])
        return
    settings: Settings = request.getfixturevalue("broker")
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    admin.create_topics([NewTopic(topic, num_partitions=3)])[topic].result(30)
    opened: list[EventReader] = []

    def reader(group: str) -> EventReader:
        opened.append(KafkaEventReader(settings, group=f"{topic}.{group}", topics=[topic]))
        return opened[-1]

    yield KafkaEventLog(settings), reader
    for each in opened:
        each.close()


def read(reader: EventReader, count: int) -> list[Event]:
    events: list[Event] = []
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while len(events) < count and time.monotonic() < deadline:
        events += reader.poll(0.5)
    return events


def test_events_arrive_whole_and_in_order_within_a_key(
    log_and_reader: tuple[EventLog, Reader], topic: str
) -> None:
    log, reader = log_and_reader
    sent = [
        (f"call-{n % 7}", {"n": n, "text": "café ☎", "deep": {"none": None}}) for n in range(70)
    ]
    for key, value in sent:
        log.publish(topic, key, value)
    assert log.flush(ARRIVAL_SECONDS) == 0

    events = read(reader("group"), 70)

    assert len(events) == 70
    assert {event.topic for event in events} == {topic}
    for key in {key for key, _ in sent}:
        got = [event for event in events if event.key == key]
        assert [event.value for event in got] == [value for k, value in sent if k == key]
        assert len({event.partition for event in got}) == 1
        offsets = [event.offset for event in got]
        assert offsets == sorted(offsets)


def test_what_was_committed_is_not_read_again_and_what_was_not_is(
    log_and_reader: tuple[EventLog, Reader], topic: str
) -> None:
    log, reader = log_and_reader
    log.publish(topic, "call", {"n": 1})
    log.flush(ARRIVAL_SECONDS)
    first = reader("group")
    assert [event.value["n"] for event in read(first, 1)] == [1]
    first.commit()
    log.publish(topic, "call", {"n": 2})
    log.flush(ARRIVAL_SECONDS)
    assert [event.value["n"] for event in read(first, 1)] == [2]
    first.close()

    again = reader("group")
    assert [event.value["n"] for event in read(again, 1)] == [2]
    assert [event.value["n"] for event in read(reader("other group"), 2)] == [1, 2]


def test_nothing_new_is_an_empty_poll_and_an_empty_commit(
    log_and_reader: tuple[EventLog, Reader],
) -> None:
    quiet = log_and_reader[1]("group")
    assert quiet.poll(0.01) == []
    quiet.commit()


def test_closing_twice_is_closing_once(log_and_reader: tuple[EventLog, Reader]) -> None:
    reader = log_and_reader[1]("group")
    reader.close()
    reader.close()


def test_what_is_no_json_cannot_be_published(
    log_and_reader: tuple[EventLog, Reader], topic: str
) -> None:
    with pytest.raises(TypeError):
        log_and_reader[0].publish(topic, "call", {"audio": b"bytes"})
    with pytest.raises(ValueError, match="JSON"):
        log_and_reader[0].publish(topic, "call", {"snr": float("nan")})
