"""A member of the consumer group: reads pieces of calls, publishes what was said in them."""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from hearloop.config import Settings
from hearloop.errors import ConfigurationError, InvalidInput, Overloaded
from hearloop.storage.events import connection, leave
from hearloop.streaming import Ended, Event, StreamOptions
from hearloop.streaming import Final as FinalResult
from serving import metrics
from serving.calls.call import Call, Published
from serving.calls.engines import Engines, Opened
from serving.calls.history import published_since
from serving.calls.models import Models
from serving.calls.outbox import Outbox
from serving.calls.pieces import Piece, piece
from serving.calls.silence import ReadUntil
from serving.phrases import Phrases
from serving.request_log import RequestLog
from serving.settings import ServerSettings

__all__ = ["GROUP", "Worker"]

GROUP: Final = "hearloop-calls"

SESSION_MS: Final = 6_000
"""A dead member's partitions move on after so long; the default is 45 s."""

COMMIT_SECONDS: Final = 1.0

LOOK_SECONDS: Final = 5.0
"""Between two looks at how much of the partitions is unread."""

LOOK_PATIENCE_SECONDS: Final = 1.0
"""For one of these looks; the next one may have more luck."""

SILENT_SECONDS: Final = 60.0
"""A call that sends nothing for so long has ended."""

AHEAD_SECONDS: Final = 10.0
"""Audio of a call that may wait for the recogniser: what is behind stays in Kafka."""

PAUSE_SECONDS: Final = 0.01

FLUSH_SECONDS: Final = 10.0

OPTIONS: Final = StreamOptions(partials=False)

log = logging.getLogger(__name__)


class Worker:
    """One member. Everything but the recogniser runs in the thread that calls `run`."""

    def __init__(
        self,
        settings: Settings,
        own: ServerSettings,
        models: Models,
        phrases: Phrases,
        request_log: RequestLog,
    ) -> None:
        self._settings = settings
        self._own = own
        self._audio = settings.kafka.call_audio_topic
        self._transcripts = settings.kafka.call_transcripts_topic
        self._engines = Engines(models, phrases)
        self._events: queue.SimpleQueue[tuple[Call, Event]] = queue.SimpleQueue()
        self._calls: dict[tuple[int, str], Call] = {}
        self._published: dict[int, dict[tuple[str, int], Published]] = {}
        self._next: dict[int, int] = {}
        self._read_until = ReadUntil()
        self._committed_at = 0.0
        self._looked_at = 0.0
        self._consumer = self._joined()
        self._outbox = Outbox(settings, own, request_log)

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; live calls go on with another member of the group.

        Raises ServiceUnavailable when the broker refuses a transcript: nothing is committed
        then, and whoever comes next publishes it.
        """
        try:
            while not stop.is_set():
                message = self._consumer.poll(PAUSE_SECONDS)
                if message is not None:
                    self._read(message)
                self._tell()
                if (now := time.monotonic()) - self._looked_at > LOOK_SECONDS:
                    self._look(now)
                if now - self._committed_at > COMMIT_SECONDS:
                    self._end_silent()
                    self._commit()
                    self._engines.retire()
        finally:
            leave(self._consumer)  # revokes, and so commits
            self._engines.close()

    def _joined(self) -> Consumer:
        consumer = Consumer(
            {
                **connection(self._settings),
                "group.id": GROUP,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": SESSION_MS // 3,
            },
            logger=log,
        )
        self._check_partitions(consumer)
        consumer.subscribe(
            [self._audio],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=lambda _, partitions: self._abandon(partitions),
        )
        return consumer

    def _check_partitions(self, consumer: Consumer) -> None:
        topics = consumer.list_topics(timeout=FLUSH_SECONDS).topics
        audio, transcripts = (
            len(topics[name].partitions) if name in topics else 0
            for name in (self._audio, self._transcripts)
        )
        if not 0 < audio <= transcripts:
            raise ConfigurationError(
                f"The topic {self._audio} has {audio} partitions and {self._transcripts} has "
                f"{transcripts}; create both with as many (`hearloop prepare topics`)."
            )

    # Partitions come and go.

    def _assigned(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        for committed in consumer.committed(list(partitions), timeout=FLUSH_SECONDS):
            number, offset = committed.partition, max(0, committed.offset)
            self._published[number] = published_since(self._settings, number, offset)
            self._next[number] = offset
            log.info("Partition %d is read from offset %d on", number, offset)

    def _revoked(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Whoever gets the partitions next sees all that we have published."""
        self._tell()
        self._commit()
        self._abandon(partitions)

    def _abandon(self, partitions: Sequence[TopicPartition]) -> None:
        gone = {one.partition for one in partitions}
        for key in [key for key in self._calls if key[0] in gone]:
            self._calls.pop(key).close()
        for number in gone:
            self._published.pop(number, None)
            self._next.pop(number, None)
            self._read_until.forget(number)
            metrics.UNREAD_PIECES.labels(str(number)).set(0)  # whoever reads it now tells

    # Pieces come in.

    def _read(self, message: Message) -> None:
        if message.error() is not None:
            log.warning("The event log says: %s", message.error())
            return
        try:
            self._take(piece(message))
        except InvalidInput as error:
            log.error(
                "Piece %d of partition %d is passed over: %s",
                message.offset(), message.partition(), error,
            )  # fmt: skip
        partition, following = message.partition() or 0, (message.offset() or 0) + 1
        self._next[partition] = following
        self._read_until.read(partition, following)

    def _take(self, piece: Piece) -> None:
        key = piece.place.partition, piece.key
        while key in self._calls and self._calls[key].finished:  # the next call of that name
            self._tell()
            time.sleep(PAUSE_SECONDS)
        call = self._calls.get(key) or self._opened(piece)
        if call is None:
            return
        call.take(piece)
        while call.stream.waiting_s > AHEAD_SECONDS:
            self._tell()
            time.sleep(PAUSE_SECONDS)

    def _opened(self, first: Piece) -> Call | None:
        """A call that begins here; None where the piece belongs to one that has ended."""
        known = self._published[first.place.partition]
        for (key, began), published in known.items():
            over = published.ended_at
            if key == first.key and over is not None and began <= first.place.offset <= over:
                return None
        if first.last and not first.audio:  # late news of a call that silence has ended
            return None
        published = known.get((first.key, first.place.offset), Published())
        given = self._own.tenant(first.tenant).consent == "given"
        while True:
            try:
                call = Call(first, published, given, self._stream_of)
            except Overloaded as error:
                log.warning("%s", error)
                self._make_room()
            else:
                self._calls[first.place.partition, first.key] = call
                metrics.LIVE_STREAMS.set(len(self._calls))
                return call

    def _stream_of(self, call: Call) -> Opened:
        caller = call.caller(call.key)
        return self._engines.open(lambda event: self._events.put((call, event)), caller, OPTIONS)

    def _make_room(self) -> None:
        """End the call that said nothing for longest; if it goes on, it goes on as another call.

        What it said is published. Waiting for calls to end by themselves could last for ever:
        their last pieces may lie behind the one that waits.
        """
        oldest = min(self._calls.values(), key=lambda call: call.heard_at)
        log.warning("Call %s is ended to make room; start more members", oldest.key)
        oldest.finish()
        while self._calls.get((oldest.began.partition, oldest.key)) is oldest:
            self._tell()
            time.sleep(PAUSE_SECONDS)

    def _look(self, now: float) -> None:
        """See how much of our partitions is unread."""
        self._looked_at = now
        for partition, following in self._next.items():
            place = TopicPartition(self._audio, partition)
            try:
                _, end = self._consumer.get_watermark_offsets(place, timeout=LOOK_PATIENCE_SECONDS)
            except KafkaException as error:
                log.warning("How much is unread is not known: %s", error.args[0].str())
                return
            metrics.UNREAD_PIECES.labels(str(partition)).set(max(0, end - following))
            self._read_until.mark(partition, now, end)
            self._read_until.read(partition, following)

    def _end_silent(self) -> None:
        for call in self._calls.values():
            until = self._read_until.until(call.began.partition)
            if call.heard_at < until - SILENT_SECONDS:
                call.finish()

    # Records go out.

    def _tell(self) -> None:
        """Publish what the recogniser has found since."""
        while True:
            try:
                call, event = self._events.get_nowait()
            except queue.Empty:
                break
            if self._calls.get((call.began.partition, call.key)) is call:
                self._hear(call, event)
        self._outbox.poll()

    def _hear(self, call: Call, event: Event) -> None:
        if isinstance(event, FinalResult):
            record = call.said(event)
            late_s = max(0.0, time.monotonic() - call.recording.arrived(event.end_s))
            samples = call.recording.take(event.start_s, event.end_s)
            if record is not None:
                self._outbox.answer(call, record, samples, late_s)
        elif isinstance(event, Ended):
            if event.error is not None:
                raise event.error
            record = call.ended()
            self._outbox.publish(call, record)
            self._calls.pop((call.began.partition, call.key)).close()
            metrics.LIVE_STREAMS.set(len(self._calls))
            self._published[call.began.partition][call.key, call.began.offset] = Published(
                ended_at=record.until
            )

    def _commit(self) -> None:
        """Commit what no live call needs any more, once all that was said is acknowledged."""
        self._committed_at = time.monotonic()
        if not self._outbox.flush(FLUSH_SECONDS) or not self._next:
            return
        oldest = dict(self._next)
        for (partition, _), call in self._calls.items():
            oldest[partition] = min(oldest[partition], call.began.offset)
        offsets = [TopicPartition(self._audio, p, offset) for p, offset in oldest.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:  # read again by whoever has the partitions then
            log.warning("The event log did not take a commit: %s", error.args[0].str())
        for partition, offset in oldest.items():
            self._forget_before(partition, offset)

    def _forget_before(self, partition: int, offset: int) -> None:
        known = self._published[partition]
        for key in [k for k, one in known.items() if (one.ended_at or offset) < offset]:
            del known[key]
