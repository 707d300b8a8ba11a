"""Keeps what was heard and answered, behind the answers' back.

After each answer the audio (FLAC, named by its SHA-256) and the request record go to object
storage, then a Transcription event to Kafka. A bounded queue and one thread do this: an answer
never waits for the log. What the queue or the services cannot take is dropped and counted.
"""

import json
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from hearloop.audio import SAMPLE_RATE, Samples, digest, encode_flac
from hearloop.config import Settings
from hearloop.decoding import Transcript
from hearloop.errors import HearloopError
from hearloop.events import Transcription, event_id
from hearloop.feedback import request_uri
from hearloop.ports import EventLog, ObjectStore
from hearloop.retention import KEPT_DAYS, last_day, note_expiry, note_sharing
from serving import metrics
from serving.caller import Caller

__all__ = ["Answered", "RequestLog"]

QUEUE_SECONDS = 1_800.0
"""Audio that may wait: half an hour is 115 MB, and minutes of traffic for two cores."""

DROP_REASONS = ("queue full", "storage", "error", "shutdown")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One answer as it was given. `samples`: (n,) at 16 kHz."""

    caller: Caller
    model_version: str
    samples: Samples
    transcript: Transcript
    received_at: str
    """ISO 8601, UTC."""

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.samples) / SAMPLE_RATE


class RequestLog:
    """One background thread between the answers and the stores."""

    def __init__(
        self,
        settings: Settings,
        objects: ObjectStore,
        events: EventLog,
        kept_days: Callable[[str], int] = lambda tenant: KEPT_DAYS,
    ) -> None:
        """`kept_days`: how long recordings of a tenant are kept."""
        self._bucket = settings.buckets.audio
        self._topic = settings.kafka.transcriptions_topic
        self._objects = objects
        self._kept_days = kept_days
        self._events = events
        self._queue: deque[Answered] = deque()
        self._queued_seconds = 0.0
        self._changed = threading.Condition(threading.RLock())
        self._closing = False
        self._dropped: Counter[str] = Counter(dict.fromkeys(DROP_REASONS, 0))
        self._thread = threading.Thread(target=self._work, name="request-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> Mapping[str, int]:
        """Answers that were not logged, by reason."""
        with self._changed:
            return dict(self._dropped)

    @property
    def waiting(self) -> int:
        """Answers that are not logged yet."""
        return len(self._queue)

    def put(self, answered: Answered) -> None:
        """Queue one answer, if it may be kept; drops and counts it when too much is waiting.

        Never blocks.
        """
        if not answered.caller.consent:
            metrics.WITHHELD.inc()
            return
        with self._changed:
            if self._closing or self._queued_seconds + answered.seconds > QUEUE_SECONDS:
                self._drop("shutdown" if self._closing else "queue full", 1)
                return
            self._queue.append(answered)
            self._queued_seconds += answered.seconds
            self._changed.notify()

    def close(self, seconds: float) -> int:
        """Log what is waiting, for at most `seconds`; returns how many answers were left."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            left = len(self._queue)
            self._queue.clear()
            self._drop("shutdown", left)
        left += self._events.flush(max(0.0, deadline - time.monotonic()))
        if left:
            log.error("%d answers were not logged before the server stopped", left)
        return left

    def _work(self) -> None:
        while (answered := self._next()) is not None:
            try:
                self._store(answered)
            except HearloopError as error:
                log.warning("The answer to %s is not logged: %s", answered.caller.request_id, error)
                self._drop("storage", 1)
            except Exception:  # whatever one answer does to us, the next ones are still logged
                log.exception("The answer to %s is not logged", answered.caller.request_id)
                self._drop("error", 1)

    def _next(self) -> Answered | None:
        """The next answer; None when the log is closing and everything is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            if not self._queue:
                return None
            answered = self._queue.popleft()
            self._queued_seconds -= answered.seconds
            return answered

    def _store(self, answered: Answered) -> None:
        """When it goes, audio, record, event: whoever sees one finds what it names."""
        flac = encode_flac(answered.samples)
        name = digest(flac)
        audio_uri = f"s3://{self._bucket}/audio/{name}.flac"
        event = _transcription(answered, name, audio_uri)
        body = json.dumps(event.to_json(), ensure_ascii=False).encode()
        record_uri = request_uri(self._bucket, event.request_id)
        ends = last_day(datetime.now(UTC).date(), self._kept_days(answered.caller.tenant))
        note_expiry(
            self._objects,
            self._bucket,
            event.request_id,
            audio_uri=audio_uri,
            record_uri=record_uri,
            last_day=ends,
        )
        if not self._objects.create(audio_uri, flac, content_type="audio/flac"):
            note_sharing(self._objects, self._bucket, audio_uri, ends)
        if not self._objects.create(record_uri, body, content_type="application/json"):
            log.info("The request id %s was used before; its record stays", event.request_id)
        self._events.publish(self._topic, event.call, event.to_json())

    def _drop(self, reason: str, count: int) -> None:
        with self._changed:
            self._dropped[reason] += count
        if reason == "queue full" and self._dropped[reason].bit_count() == 1:
            log.warning("%d answers were not logged: too many wait", self._dropped[reason])


def _transcription(answered: Answered, audio_digest: str, audio_uri: str) -> Transcription:
    caller, transcript = answered.caller, answered.transcript
    return Transcription(
        event_id=event_id(caller.request_id, audio_digest),
        request_id=caller.request_id,
        call=caller.call or caller.request_id,
        speaker=caller.speaker,
        model_version=answered.model_version,
        audio_uri=audio_uri,
        audio_seconds=answered.seconds,
        text=transcript.text,
        confidence=transcript.confidence,
        words=len(transcript.words),
        received_at=answered.received_at,
        tenant=caller.tenant,
    )
