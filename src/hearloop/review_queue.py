"""The queue in front of the reviewers: filled from the event log, handed out, asked about.

It is fed by the transcription events, so that no answer waits for it and a database that is away
costs nothing but time.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from hearloop.audio import Samples, decode
from hearloop.errors import DataError, InvalidInput, ServiceUnavailable
from hearloop.events import Transcription
from hearloop.ports import Event, ObjectStore
from hearloop.review import AUDITED_CALLS, Candidate, Place, rank

__all__ = ["CLAIM", "MOST_LISTED", "Listed", "ReviewQueue", "ReviewStore"]

CLAIM: Final = timedelta(minutes=10)
"""How long an utterance is kept for whoever took it: a pause, and not a holiday."""

MOST_LISTED: Final = 100
"""Places that are handed out at once."""

_RANKED: Final = 300
"""Utterances of each kind that are ranked against each other: 900 take about 50 ms."""

_SHORTEST_SILENCE: Final = 1.0
"""Seconds: in less than that nobody has said something that the recogniser missed entirely."""

_UNWEIGHABLE: Final = 0.0
"""Stands in for the plausibility of an answer whose recording cannot be read, so that it is not
asked about again."""

log = logging.getLogger(__name__)


class ReviewStore(Protocol):
    """What the queue needs of its store; `SqlReviewStore` has it."""

    def enrol(self, transcriptions: Iterable[Transcription]) -> int:
        """Put answered utterances up, each once; returns how many are new."""

    def waiting(
        self, contributor: str, now: datetime, *, audited_calls: float, limit: int
    ) -> Sequence[Candidate]:
        """What this person may review now."""

    def count(self, contributor: str, now: datetime) -> int:
        """How many utterances this person may review."""

    def find(self, request_ids: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        """What is known of utterances, by request id."""

    def get(self, request_id: str) -> Mapping[str, Any]:
        """What is known of an utterance. Raises NotFound."""

    def claim(self, request_id: str, contributor: str, *, now: datetime, until: datetime) -> None:
        """Keep an utterance for one person. Raises NotFound and Conflict."""

    def skip(self, request_id: str, contributor: str) -> None:
        """Remember that this person cannot make it out. Raises NotFound."""

    def unweighed(self) -> Mapping[str, Any] | None:
        """The least confident utterance that the version in service was not asked about."""

    def set_plausibility(self, request_id: str, plausibility: float) -> None:
        """Keep what the version in service thinks of an answer."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A place in the queue with all that is known of its utterance."""

    place: Place
    utterance: Mapping[str, Any]


class ReviewQueue:
    """Hands out what people should look at next; safe between threads."""

    def __init__(
        self,
        *,
        objects: ObjectStore,
        store: ReviewStore,
        plausibilities: Callable[[Samples, Sequence[str]], Sequence[float]],
        audited_calls: Callable[[], float] = lambda: AUDITED_CALLS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`audited_calls` says which share of calls is audited: the monitor raises it."""
        self._objects = objects
        self._store = store
        self._plausibilities = plausibilities
        self._audited_calls = audited_calls
        self._now = now

    def list(self, contributor: str, limit: int) -> tuple[Sequence[Listed], int]:
        """The next utterances for this person, best first, and how many there are."""
        now, share = self._now(), self._audited_calls()
        candidates = self._store.waiting(contributor, now, audited_calls=share, limit=_RANKED)
        places = rank(candidates, limit=limit, audited_calls=share)
        known = self._store.find([place.candidate.request_id for place in places])
        listed = [
            Listed(place=place, utterance=known[place.candidate.request_id])
            for place in places
            if place.candidate.request_id in known  # forgotten meanwhile
        ]
        return listed, self._store.count(contributor, now)

    def claim(self, request_id: str, contributor: str) -> Mapping[str, Any]:
        """Keep an utterance for this person for ten minutes. Raises NotFound and Conflict."""
        now = self._now()
        self._store.claim(request_id, contributor, now=now, until=now + CLAIM)
        return self._store.get(request_id)

    def skip(self, request_id: str, contributor: str) -> None:
        """Offer an utterance to others only. Raises NotFound."""
        self._store.skip(request_id, contributor)

    def audio(self, request_id: str) -> bytes:
        """The recording, FLAC. Raises NotFound."""
        return self._objects.get(self._store.get(request_id)["audio_uri"])

    def enrol(self, events: Iterable[Event]) -> int:
        """Put up what was answered; an event that is none of ours is passed over.

        So is a short silence: a stream often ends with one.
        """
        transcriptions = []
        for event in events:
            try:
                transcriptions.append(Transcription.from_json(event.value))
            except InvalidInput as error:
                log.error("Event %d of partition %d: %s", event.offset, event.partition, error)
        return self._store.enrol(
            one for one in transcriptions if one.text or one.audio_seconds >= _SHORTEST_SILENCE
        )

    def ask(self) -> bool:
        """Ask the version in service about one answer; False when there is none to ask about."""
        utterance = self._store.unweighed()
        if utterance is None:
            return False
        request_id, text = utterance["request_id"], utterance["text"]
        try:
            samples = decode(self._objects.get(utterance["audio_uri"])).samples
            (plausibility,) = self._plausibilities(samples, [text])
        except ServiceUnavailable as error:
            log.warning("The answer to %s waits to be weighed: %s", request_id, error)
            return False
        except (DataError, InvalidInput) as error:
            log.warning("The answer to %s cannot be weighed: %s", request_id, error)
            plausibility = _UNWEIGHABLE
        self._store.set_plausibility(request_id, plausibility)
        return True
