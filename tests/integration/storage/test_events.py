"""The event log against a Tansu broker that is killed, away or given nonsense."""

import time
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from hearloop.config import KafkaSettings, Settings
from hearloop.errors import ServiceUnavailable
from hearloop.stack import Ports, Stack
from hearloop.storage.events import KafkaEventLog, KafkaEventReader, create_topics

pytestmark = pytest.mark.stack


def read_all(settings: Settings, topic: str, count: int, group: str | None = None) -> list[int]:
    """Numbers of the first `count` events, each once: the log promises at least once."""
    reader = KafkaEventReader(settings, group=group or uuid4().hex, topics=[topic])
    found: dict[tuple[int, int], int] = {}
    deadline = time.monotonic() + 60
    while len(set(found.values())) < count and time.monotonic() < deadline:
        for event in reader.poll(0.5):
            found[event.partition, event.offset] = event.value["n"]
    reader.close()
    return sorted(set(found.values()))


def test_acknowledged_events_survive_a_killed_broker(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack", ports=Ports.free())
    topic = stack.settings.kafka.transcriptions_topic
    try:
        stack.up("events")
        log = KafkaEventLog(stack.settings)
        for n in range(1000):
            log.publish(topic, f"call-{n % 40}", {"n": n})
        assert log.flush(60) == 0
        assert (log.delivered, log.dropped) == (1000, 0)

        (killed,) = (each for each in stack.status() if each.name == "events")
        psutil.Process(killed.pid).kill()
        log.publish(topic, "call-0", {"n": 1000})  # while the broker is away
        assert log.flush(60) == 0

        (restarted,) = (each for each in stack.status() if each.name == "events")
        assert restarted.pid != killed.pid
        assert log.dropped == 0
        assert read_all(stack.settings, topic, 1001) == list(range(1001))

        stack.down()
        stack.up("events")
        assert read_all(stack.settings, topic, 1001) == list(range(1001))
    finally:
        stack.down()


def test_publishing_never_waits_for_a_broker_that_is_away(
    broker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hearloop.storage.events.QUEUED_MESSAGES", 100)
    away = broker.model_copy(update={"kafka": KafkaSettings(bootstrap_servers="127.0.0.1:9")})
    log = KafkaEventLog(away)

    slowest = 0.0
    for n in range(150):
        began = time.monotonic()
        log.publish("any", "call", {"n": n})
        slowest = max(slowest, time.monotonic() - began)

    assert log.dropped == 50
    assert slowest < 0.25
    assert log.flush(0.01) == 100


def test_a_reader_steps_over_an_event_that_is_no_json(broker: Settings) -> None:
    topic = f"strangers.{uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": broker.kafka.bootstrap_servers})
    admin.create_topics([NewTopic(topic, num_partitions=1)])[topic].result(30)
    stranger = Producer({"bootstrap.servers": broker.kafka.bootstrap_servers})
    for body in (b"\xff\xfe", b"[1]", b'"text"'):
        stranger.produce(topic, key=b"call", value=body)
    assert stranger.flush(30) == 0
    log = KafkaEventLog(broker)
    log.publish(topic, "call", {"n": 7})
    assert log.flush(30) == 0
    assert read_all(broker, topic, 1) == [7]


def test_a_reader_that_leaves_while_it_joins_keeps_nobody_out(broker: Settings) -> None:
    topic, group = f"left.{uuid4().hex}", uuid4().hex
    log = KafkaEventLog(broker)
    log.publish(topic, key="call", value={"n": 1})
    assert log.flush(30) == 0
    hasty = KafkaEventReader(broker, group=group, topics=[topic])
    hasty.poll(1.0)
    hasty.close()
    assert read_all(broker, topic, 1, group) == [1]


def test_topics_are_made_once(broker: Settings) -> None:
    create_topics(broker)
    create_topics(broker)


def test_a_broker_that_is_away_is_named(broker: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hearloop.storage.events.ADMIN_SECONDS", 0.5)
    away = broker.model_copy(update={"kafka": KafkaSettings(bootstrap_servers="127.0.0.1:9")})
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9"):
        create_topics(away)
