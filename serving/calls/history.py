"""What has been published of the calls of a partition: where a member of the group goes on."""

import logging
import time
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from hearloop.config import Settings
from hearloop.errors import InvalidInput, ServiceUnavailable
from hearloop.storage.events import connection
from serving.calls.call import Published
from serving.calls.pieces import record

__all__ = ["published_since"]

SKEW_MS: Final = 2 * 60 * 60 * 1000
"""The clocks of whoever sends audio and whoever writes transcripts may differ so much."""

PATIENCE_SECONDS: Final = 60.0

log = logging.getLogger(__name__)


def published_since(
    settings: Settings, partition: int, offset: int
) -> dict[tuple[str, int], Published]:
    """What the transcripts have of calls whose audio begins at `offset` or later.

    By the key of the call and the offset at which it begins. Their transcripts are no older than
    that audio, so reading starts at its time, less the skew of the clocks. Raises
    ServiceUnavailable.
    """
    reader = Consumer(
        {
            **connection(settings),
            "group.id": "hearloop-calls-history",  # librdkafka wants one; nothing is committed
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        },
        logger=log,
    )
    try:
        first = _first(reader, settings.kafka.call_audio_topic, partition, offset)
        if first is None:
            return {}
        topic = settings.kafka.call_transcripts_topic
        since = TopicPartition(topic, partition, max(0, first.timestamp()[1] - SKEW_MS))
        (start,) = reader.offsets_for_times([since], timeout=PATIENCE_SECONDS)
        if start.offset < 0:
            return {}
        return _read(reader, start, offset)
    finally:
        reader.close()


def _first(reader: Consumer, topic: str, partition: int, offset: int) -> Message | None:
    """The message at an offset or after it; None at the end of the partition."""
    reader.assign([TopicPartition(topic, partition, offset)])
    return _next(reader)


def _read(reader: Consumer, start: TopicPartition, offset: int) -> dict[tuple[str, int], Published]:
    found: dict[tuple[str, int], Published] = {}
    reader.assign([start])
    while (message := _next(reader)) is not None:
        try:
            one = record(message)
        except InvalidInput as error:
            log.error("Transcript %s is passed over: %s", message.offset(), error)
            continue
        if one.until >= offset:
            key = (one.key, one.began.offset)
            found[key] = found.get(key, Published()).with_record(one)
    return found


def _next(reader: Consumer) -> Message | None:
    """The next message, None at the end of the partition. Raises ServiceUnavailable."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        message = reader.poll(1.0)
        if message is None:
            continue
        error = message.error()
        if error is None:
            return message
        if error.code() == KafkaError._PARTITION_EOF:
            return None
        log.warning("The event log says: %s", error)
    raise ServiceUnavailable(
        f"The transcripts of calls could not be read within {PATIENCE_SECONDS:.0f} s; check that "
        "the event log runs (`hearloop status`)."
    )
