"""The review queue: what people should look at next.

| route | answer |
|---|---|
| `GET /feedback/v1/queue?contributor=…` | the next utterances for this person, best first |
| `POST /feedback/v1/queue/{request_id}/claim` | keeps one for this person for ten minutes |
| `POST /feedback/v1/queue/{request_id}/skip` | offers it to others only |
| `GET /feedback/v1/queue/{request_id}/audio` | its recording, FLAC |

Whoever corrects an utterance (`POST /feedback/v1/corrections`) takes it out of the queue.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from hearloop import composition
from hearloop.config import Settings
from hearloop.errors import HearloopError
from hearloop.feedback import Plausibilities
from hearloop.ports import Event
from hearloop.review import Reason
from hearloop.review_queue import MOST_LISTED, Listed, ReviewQueue

__all__ = ["ERRORS", "Name", "create_router", "intake", "queue"]

POLL_SECONDS: Final = 1.0
"""How long an answer may be old before it is in the queue; and the pause between two answers
that the model is asked about, which so cost it a fiftieth of a core."""

GROUP: Final = "review-queue"
"""Consumer group: the replicas of the service share the events."""

log = logging.getLogger(__name__)

Name = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9+][A-Za-z0-9._@+-]*$")]
"""Safe in an object key and in a log line: no slash, no space, and no dot in front."""

RequestId = Annotated[str, Path(max_length=128, pattern=r"^[A-Za-z0-9+][A-Za-z0-9._@+-]*$")]


class Refusal(BaseModel):
    """One clear sentence."""

    error: str


ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Refusal, "description": "The request is malformed."},
    "4XX": {"model": Refusal, "description": "The request is refused."},
    "5XX": {"model": Refusal, "description": "A service behind this one does not answer."},
}
"""Of every route, for the OpenAPI document."""


class Person(BaseModel):
    """The body of a claim or a skip."""

    model_config = ConfigDict(extra="forbid")

    contributor: Name


class Utterance(BaseModel):
    """An answered utterance."""

    request_id: str
    call: str
    speaker: str | None
    text: str
    """What was answered."""
    confidence: float
    audio_seconds: float
    model_version: str
    received_at: str
    claimed_until: datetime | None
    """Until when whoever claimed it has it."""


class QueuedUtterance(Utterance):
    """One that waits, and why."""

    reason: Reason
    """`audited` was drawn by lot, `doubtful` is where a correction teaches most."""
    doubt: float


class Queue(BaseModel):
    """The head of the queue, for one person."""

    utterances: list[QueuedUtterance]
    waiting: int
    """How many there are in all."""


def create_router(reviews: Callable[[], ReviewQueue]) -> APIRouter:
    """The routes; `reviews` is called for each request, as the database may be away at first."""
    router = APIRouter(prefix="/v1/queue", tags=["review"])

    @router.get("")
    def waiting(
        contributor: Annotated[Name, Query()],
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 20,
    ) -> Queue:
        """What this person should look at next; the order is what a correction would teach."""
        listed, count = reviews().list(contributor, limit)
        return Queue(utterances=[_queued(one) for one in listed], waiting=count)

    @router.post("/{request_id}/claim")
    def claim(request_id: RequestId, body: Person) -> Utterance:
        """Keep an utterance for this person; 409 while somebody else has it."""
        return Utterance.model_validate(reviews().claim(request_id, body.contributor))

    @router.post("/{request_id}/skip", status_code=204)
    def skip(request_id: RequestId, body: Person) -> Response:
        """This person cannot make it out: offer it to others."""
        reviews().skip(request_id, body.contributor)
        return Response(status_code=204)

    @router.get(
        "/{request_id}/audio",
        response_class=Response,
        responses={200: {"content": {"audio/flac": {}}, "description": "The recording."}},
    )
    def audio(request_id: RequestId) -> Response:
        """The recording."""
        return Response(
            reviews().audio(request_id),
            media_type="audio/flac",
            headers={"cache-control": "private, no-store"},
        )

    return router


def _queued(listed: Listed) -> QueuedUtterance:
    return QueuedUtterance.model_validate(
        {**listed.utterance, "reason": listed.place.reason, "doubt": listed.place.doubt}
    )


def queue(settings: Settings, plausibilities: Plausibilities) -> Callable[[], ReviewQueue]:
    """A function that gives the one ReviewQueue over the settings' services."""

    @cache
    def build() -> ReviewQueue:
        decisions = composition.decisions(settings)
        return ReviewQueue(
            objects=composition.objects(settings),
            store=composition.review_store(settings),
            plausibilities=plausibilities,
            audited_calls=lambda: composition.audited_calls(decisions),
        )

    return build


@contextmanager
def intake(settings: Settings, reviews: Callable[[], ReviewQueue]) -> Iterator[None]:
    """Fill the queue from the event log meanwhile, in a thread."""
    stop = threading.Event()
    thread = threading.Thread(
        target=_take_in, args=(settings, reviews, stop), name="review-intake", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(2 * POLL_SECONDS)


def _take_in(settings: Settings, reviews: Callable[[], ReviewQueue], stop: threading.Event) -> None:
    topics = [settings.kafka.transcriptions_topic]
    reader = composition.event_reader(settings, group=GROUP, topics=topics)
    pending: Sequence[Event] = []
    while not stop.is_set():
        try:
            pending = pending or reader.poll(POLL_SECONDS)
            if pending:
                reviews().enrol(pending)
                reader.commit()
                pending = []
            else:
                reviews().ask()
        except HearloopError as error:  # what was read stays pending
            log.warning("The review queue waits: %s", error)
            stop.wait(POLL_SECONDS)
        except Exception:  # one bad answer must not end the queue
            log.exception("The review queue could not take in %d events", len(pending))
            pending = []
            stop.wait(POLL_SECONDS)
    reader.close()
