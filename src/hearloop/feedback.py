"""Taking a correction: look up the request, normalise, weigh, store, tell the event log.

What has to survive is stored first. A recogniser or an event log that is down costs nothing but
time: corrections that wait for evidence are weighed, and those that wait for the event log
published, when the next one comes in.
"""

import json
import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from hearloop.audio import Samples, decode
from hearloop.config import Settings
from hearloop.corrections import (
    Correction,
    Evidence,
    ScreeningPolicy,
    Status,
    correct,
    weigh,
)
from hearloop.errors import DataError, InvalidInput, NotFound, ServiceUnavailable
from hearloop.events import Transcription
from hearloop.ports import EventLog, ObjectStore

__all__ = ["Feedback", "FeedbackStore", "Plausibilities", "request_uri"]

Plausibilities = Callable[[Samples, Sequence[str]], Sequence[float]]
"""How well each of several texts fits a recording, in nats per character: the champion's."""

CATCH_UP = 4
"""Corrections weighed again after each new one: the first ten wait for rivals, the first few
dozen have rivals of other lengths than their own, and the ones that follow make up for that."""

PUBLISH_BATCH = 100
QUEUED_SECONDS = 0.1
"""How long what is queued already may take: more, and the event log is away."""
PUBLISH_SECONDS = 5.0
"""How long the event log may take to acknowledge before its corrections wait for another time."""

_LOG = logging.getLogger(__name__)


def request_uri(bucket: str, request_id: str) -> str:
    """Where the server keeps what it answered to one request."""
    return f"s3://{bucket}/requests/{request_id}.json"


class FeedbackStore(Protocol):
    """What taking a correction needs of the store; `SqlCorrectionStore` has it."""

    def add(self, correction: Correction) -> tuple[Correction, bool]:
        """Store a correction once; returns it as stored, and whether this call stored it."""

    def get(self, correction_id: str) -> Correction:
        """One correction. Raises NotFound."""

    def rivals(self, correction: Correction, count: int, *, each: int) -> Sequence[str]:
        """Texts for other audio, at most `each` of any other contributor, nearest in length
        first."""

    def unweighed(
        self, rivals: int, limit: int, *, besides: Collection[str] = ()
    ) -> Sequence[Correction]:
        """Corrections weighed against fewer than `rivals`, the least weighed first."""

    def set_evidence(self, correction_id: str, evidence: Evidence) -> None:
        """Keep what the recogniser made of a correction."""

    def unpublished(self, limit: int) -> Sequence[Correction]:
        """The oldest corrections that the event log has not acknowledged."""

    def set_published(self, correction_ids: Collection[str]) -> None:
        """Remember that the event log has acknowledged these corrections."""

    def list(
        self,
        *,
        after: int = 0,
        up_to: int | None = None,
        statuses: Collection[Status] | None = None,
        limit: int | None = None,
    ) -> Sequence[Correction]:
        """Corrections with `after` < sequence <= `up_to`, in sequence order."""

    def counts(self) -> Mapping[Status, int]:
        """How many corrections there are, by status."""

    def oldest_unreviewed(self, rivals: int) -> datetime | None:
        """When the oldest correction came that still waits to be weighed against `rivals`."""


class Feedback:
    """The desk where corrections are handed in; safe between threads."""

    def __init__(
        self,
        *,
        settings: Settings,
        objects: ObjectStore,
        events: EventLog,
        store: FeedbackStore,
        plausibilities: Plausibilities,
        policy: ScreeningPolicy | None = None,
    ) -> None:
        self.store = store
        self._bucket = settings.buckets.audio
        self._language = settings.language
        self._topic = settings.kafka.corrections_topic
        self._objects = objects
        self._events = events
        self._plausibilities = plausibilities
        self._policy = policy or ScreeningPolicy()
        self._publishing = threading.Lock()
        self._unweighable: set[str] = set()

    def take(self, *, request_id: str, text: str, contributor: str) -> tuple[Correction, bool]:
        """Store a correction; returns it as stored, and whether it is new.

        Raises NotFound for a request that was never answered, and InvalidTranscript for text that
        cannot be a transcript.
        """
        received_at = datetime.now(UTC).isoformat(timespec="microseconds")
        correction = correct(
            self._transcription(request_id),
            text=text,
            contributor=contributor,
            received_at=received_at,
            language=self._language,
        )
        stored, new = self.store.add(correction)
        if new and stored.text != stored.hypothesis:
            self._weigh(stored)
            stored = self.store.get(stored.id)
        return stored, new

    def catch_up(self) -> None:
        """Weigh and publish some of the corrections that had to wait."""
        try:
            for waiting in self.store.unweighed(
                self._policy.rivals, CATCH_UP, besides=self._unweighable
            ):
                self._weigh(waiting)
        finally:
            self._publish()

    def oldest_unreviewed(self) -> datetime | None:
        """When the oldest correction came that nobody can rule on yet; None when none waits."""
        return self.store.oldest_unreviewed(self._policy.minimum_rivals)

    def _transcription(self, request_id: str) -> Transcription:
        try:
            body = self._objects.get(request_uri(self._bucket, request_id))
        except NotFound:
            raise NotFound(
                f"No answered request has the id {request_id!r}; send the request_id that came "
                "with the transcript, or try again in a second if it came just now."
            ) from None
        return Transcription.from_json(json.loads(body))

    def _weigh(self, correction: Correction) -> None:
        """Weigh a correction: once there are enough rivals, and again once there are plenty."""
        policy = self._policy
        rivals = self.store.rivals(correction, policy.rivals, each=policy.rivals_each)
        enough = policy.minimum_rivals if correction.evidence is None else policy.rivals
        if len(rivals) < enough:
            return
        try:
            samples = decode(self._objects.get(correction.audio_uri)).samples
            own, *others = self._plausibilities(samples, [correction.text, *rivals])
        except (DataError, InvalidInput) as error:
            _LOG.warning("Correction %s cannot be weighed: %s", correction.id[:12], error)
            self._unweighable.add(correction.id)
        except ServiceUnavailable as error:
            _LOG.warning("Correction %s waits to be weighed: %s", correction.id[:12], error)
        else:
            self.store.set_evidence(correction.id, weigh(own, others))

    def _publish(self) -> None:
        """Send what the event log has not acknowledged; one thread at a time, none waits."""
        if not self._publishing.acquire(blocking=False):
            return
        try:
            # What is still queued from an earlier time will arrive, or be dropped, by itself.
            if self._events.flush(QUEUED_SECONDS) == 0:
                self._publish_batch(self.store.unpublished(PUBLISH_BATCH))
        finally:
            self._publishing.release()

    def _publish_batch(self, batch: Sequence[Correction]) -> None:
        """Publish, and remember it if all arrived; else all go again: readers de-duplicate."""
        dropped = self._events.dropped
        for one in batch:
            self._events.publish(self._topic, one.call, one.to_json())
        if batch and self._events.flush(PUBLISH_SECONDS) == 0 and self._events.dropped == dropped:
            self.store.set_published([one.id for one in batch])
