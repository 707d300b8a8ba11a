"""The event log over the Kafka protocol: Tansu here, any Kafka cluster by settings.

>>> log = KafkaEventLog(settings)
>>> log.publish("hearloop.transcriptions", key="call-7", value={"text": "pay the bill"})
>>> log.flush(5.0)
0
>>> reader = KafkaEventReader(settings, group="monitor", topics=["hearloop.transcriptions"])
>>> [event.value["text"] for event in reader.poll(10.0)]
['pay the bill']
>>> reader.commit()
"""

import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from hearloop.config import Settings
from hearloop.errors import ServiceUnavailable
from hearloop.ports import Event

__all__ = ["KafkaEventLog", "KafkaEventReader", "connection", "create_topics", "leave"]

PARTITIONS = 3
"""Of a topic that we create: up to three readers of a group share the work."""

ADMIN_SECONDS = 5.0
"""How long the broker may take to list or create topics."""

QUEUED_MESSAGES = 10_000
QUEUED_KILOBYTES = 16 * 1024
"""Bounds of the producer's queue: about a minute of answers at 150 a second. What comes while it
is full is dropped and counted, because an answer to a caller must not wait for the log."""

LINGER_MS = 5
"""Messages of 5 ms travel together: one write to the broker's S3 log instead of many."""

SESSION_MS = 6_000
"""The default of 45 s makes a group wait that long for a dead reader; Tansu joins a group in 3 s
with 6 s and in 23 s with the default."""

JOIN_SECONDS = 5.0
"""How long who leaves may still take to join; of more members than partitions some get none."""

BATCH = 500
"""Events returned by one poll at most."""

NOTHING_TO_COMMIT = KafkaError._NO_OFFSET
NO_LONGER_OURS = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError._ASSIGNMENT_LOST,
}

log = logging.getLogger(__name__)


class KafkaEventLog:
    """An EventLog whose producer is idempotent and never blocks; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._producer = Producer(
            {
                **connection(settings),
                "enable.idempotence": True,
                "linger.ms": LINGER_MS,
                "queue.buffering.max.messages": QUEUED_MESSAGES,
                "queue.buffering.max.kbytes": QUEUED_KILOBYTES,
            },
            logger=log,
        )
        self._lock = threading.Lock()
        self.delivered = 0
        """Events that the broker has acknowledged."""
        self.dropped = 0
        """Events lost: the queue was full, or the broker refused them or stayed away too long."""

    def publish(self, topic: str, key: str, value: Mapping[str, Any]) -> None:
        """Queue one event without blocking. A full queue drops and counts it, never waits."""
        body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        try:
            self._producer.produce(topic, key=key.encode(), value=body, callback=self._reported)
        except BufferError:
            self._drop("the queue is full")
        self._producer.poll(0)

    def flush(self, seconds: float) -> int:
        """Wait for queued events to be acknowledged; returns how many are still queued."""
        return self._producer.flush(seconds)

    def _reported(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._drop(error.str())
            return
        with self._lock:
            self.delivered += 1

    def _drop(self, why: str) -> None:
        with self._lock:
            self.dropped += 1
            dropped = self.dropped
        if dropped & (dropped - 1) == 0:  # at 1, 2, 4, 8…: a broker that is away floods no log
            log.warning("%d events dropped so far; the last because %s", dropped, why)


class KafkaEventReader:
    """An EventReader in a consumer group, with commits by hand. For one thread."""

    def __init__(self, settings: Settings, group: str, topics: Sequence[str]) -> None:
        self._server = settings.kafka.bootstrap_servers
        self._consumer = Consumer(
            {
                **connection(settings),
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": SESSION_MS // 3,
            },
            logger=log,
        )
        self._consumer.subscribe(list(topics))
        self._closed = False

    def poll(self, seconds: float) -> Sequence[Event]:
        """Events that arrived within `seconds`; empty when none did.

        Returns as soon as there are any. While the broker is away it returns nothing: the
        connection mends itself. Raises ServiceUnavailable when it cannot.
        """
        first = self._consumer.poll(seconds)
        if first is None:
            return []
        messages = [first, *self._consumer.consume(BATCH - 1, timeout=0)]
        events = (self._event(message) for message in messages if self._usable(message))
        return [event for event in events if event is not None]

    def commit(self) -> None:
        """Remember that everything returned by `poll` so far has been dealt with.

        Partitions that moved to another reader of the group are left to it: it reads what we
        had not committed again. Raises ServiceUnavailable when the broker is away.
        """
        try:
            self._consumer.commit(asynchronous=False)
        except KafkaException as error:
            code = error.args[0].code()
            if code == NOTHING_TO_COMMIT:
                return
            if code in NO_LONGER_OURS:
                log.info("The group was rebalanced before a commit; its events are read again")
                return
            raise ServiceUnavailable(
                f"The event log at {self._server} did not take a commit: {error.args[0].str()}; "
                "check that it runs (`hearloop status`)."
            ) from error

    def close(self) -> None:
        """Leave the consumer group; again does nothing."""
        if not self._closed:
            self._closed = True
            leave(self._consumer)

    def _usable(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.fatal():
            raise ServiceUnavailable(
                f"Reading the event log at {self._server} failed for good: {error.str()}."
            )
        log.warning("Event log at %s: %s", self._server, error.str())
        return False

    @staticmethod
    def _event(message: Message) -> Event | None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None, "a message without an error has a place"
        assert partition is not None
        assert offset is not None
        try:
            value = json.loads(message.value() or b"")
        except ValueError:
            value = None
        if not isinstance(value, dict):  # one bad event must not stop the reader for ever
            log.error("Event %d of %s/%d is no JSON object; skipped", offset, topic, partition)
            return None
        key = (message.key() or b"").decode(errors="replace")
        return Event(topic=topic, partition=partition, offset=offset, key=key, value=value)


def leave(consumer: Consumer) -> None:
    """Take a consumer out of its group, after joining it where that has begun.

    What is read meanwhile is dropped and not committed: the next member gets it. Tansu 0.6 would
    wait for ever for a member that left while it joined, and let nobody else into the group.
    """
    deadline = time.monotonic() + JOIN_SECONDS
    try:
        while not consumer.assignment() and time.monotonic() < deadline:
            consumer.poll(0.1)
    finally:
        consumer.close()


def create_topics(settings: Settings) -> None:
    """Create the topics of the settings unless they exist. Raises ServiceUnavailable."""
    kafka = settings.kafka
    admin = AdminClient(connection(settings), logger=log)
    try:
        there = admin.list_topics(timeout=ADMIN_SECONDS).topics
        wanted = {
            kafka.transcriptions_topic,
            kafka.corrections_topic,
            kafka.call_audio_topic,
            kafka.call_transcripts_topic,
        }
        missing = wanted - there.keys()
        topics = [NewTopic(topic, num_partitions=PARTITIONS) for topic in sorted(missing)]
        if topics:
            for created in admin.create_topics(topics).values():
                _settle(created)
    except KafkaException as error:
        raise ServiceUnavailable(
            f"The event log at {kafka.bootstrap_servers} did not answer: {error.args[0].str()}; "
            "check that it runs (`hearloop status`)."
        ) from error


def _settle(created: Any) -> None:
    try:
        created.result(ADMIN_SECONDS)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def connection(settings: Settings) -> dict[str, Any]:
    """How librdkafka reaches the broker of the settings."""
    kafka = settings.kafka
    found: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": kafka.security_protocol,
    }
    if kafka.sasl_mechanism:
        found |= {
            "sasl.mechanism": kafka.sasl_mechanism,
            "sasl.username": kafka.sasl_username,
            "sasl.password": kafka.sasl_password.get_secret_value(),
        }
    return found
