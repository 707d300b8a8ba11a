"""Feedback routes: corrected transcripts come in here.

| route | answer |
|---|---|
| `POST /feedback/v1/corrections` | 201 with the stored correction; 200 when it is stored already |
| `GET /feedback/v1/corrections/{id}` | 200 with the correction and what became of it |
| `GET /feedback/v1/corrections?status=…` | 200 with a page of them, in order of arrival |
| `… /feedback/v1/queue` | what to correct next: `serving.review` |
| `GET /feedback/openapi.json` | the OpenAPI document of all of these |

The routes run inside the model server, which weighs corrections with the model that it serves,
or alone: `python -m serving.feedback` weighs with the registry's champion.
"""

import argparse
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Protocol

import uvicorn
from fastapi import APIRouter, BackgroundTasks, FastAPI, Path, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from hearloop import composition
from hearloop.audio import Samples
from hearloop.config import Settings
from hearloop.corrections import LONGEST_TEXT, Correction, Status
from hearloop.errors import HearloopError, ServiceUnavailable
from hearloop.feedback import Feedback, Plausibilities
from hearloop.phrase_store import PhraseStore
from hearloop.recogniser import Recogniser
from hearloop.review_queue import ReviewQueue
from serving import review
from serving.access import Gate
from serving.boundary import Boundary
from serving.caller import TENANT
from serving.metrics import ReviewCollector
from serving.refusals import answer_errors
from serving.review import ERRORS, Name
from serving.settings import ServerSettings

__all__ = ["Champion", "create_app", "create_router", "desk"]

PORT = 8082
"""The standalone service's port, beside the model server's 8080 (HTTP) and 8081 (gRPC)."""

LARGEST_BODY = 64 * 1024
"""Bytes: the longest text several times over."""

MOST_LISTED = 500
"""Corrections in one page of the list."""

HIGHEST_SEQUENCE: Final = 2**31 - 1
"""What the database's integer holds."""

CHAMPION_SECONDS = 30.0
"""How old the standalone service's knowledge of the champion may be."""

log = logging.getLogger(__name__)

CorrectionId = Annotated[str, Path(max_length=64, pattern=r"^[0-9a-z]+$")]


class NewCorrection(BaseModel):
    """The body of a POST."""

    model_config = ConfigDict(extra="forbid")

    request_id: Name
    text: Annotated[str, Field(max_length=LONGEST_TEXT)]
    contributor: Name


Learn = Callable[[str, Correction], None]
"""Hears of a new correction, with the tenant of whoever handed it in."""


class CorrectionPage(BaseModel):
    """Corrections in order of arrival."""

    corrections: list[Correction]
    next: int | None
    """The `after` of the following page, null on the last."""


def create_router(
    feedback: Callable[[], Feedback], reviews: Callable[[], ReviewQueue], learn: Learn
) -> APIRouter:
    """The feedback routes, for any FastAPI application that answers errors as ours do.

    `feedback` and `reviews` are called for each request, so that a database that is away when the
    server starts delays corrections and not transcription. `learn` hears of each new correction.
    """
    router = APIRouter(prefix="/feedback", tags=["feedback"], responses=ERRORS)

    @router.post(
        "/v1/corrections",
        status_code=201,
        responses={200: {"model": Correction, "description": "It was stored already."}},
    )
    def add(
        request: Request, body: NewCorrection, response: Response, background: BackgroundTasks
    ) -> Correction:
        """Take a corrected transcript of an answered request."""
        stored, new = feedback().take(
            request_id=body.request_id, text=body.text, contributor=body.contributor
        )
        response.status_code = 201 if new else 200
        background.add_task(_catch_up, feedback)
        if new:
            background.add_task(learn, request.headers.get(TENANT, ""), stored)
        return stored

    @router.get("/v1/corrections/{correction_id}")
    def get(correction_id: CorrectionId) -> Correction:
        """One correction, with its evidence, status and reason."""
        return feedback().store.get(correction_id)

    @router.get("/v1/corrections")
    def find(
        status: Annotated[list[Status] | None, Query()] = None,
        after: Annotated[int, Query(ge=0, le=HIGHEST_SEQUENCE)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 100,
    ) -> CorrectionPage:
        """A page of corrections; `next` is the `after` of the following page, null on the last."""
        found = feedback().store.list(after=after, statuses=status, limit=limit)
        following = found[-1].sequence if len(found) == limit else None
        return CorrectionPage(corrections=list(found), next=following)

    router.include_router(review.create_router(reviews))

    @router.get("/openapi.json", include_in_schema=False)
    def document() -> dict[str, Any]:
        """The OpenAPI document of these routes, wherever they run."""
        return get_openapi(title="Hearloop feedback", version="1", routes=router.routes)

    return router


def learning(store: PhraseStore | None) -> Learn:
    """Puts the words that the recogniser missed into the speaker's history, in the online store."""

    def learn(tenant: str, correction: Correction) -> None:
        heard = set(correction.hypothesis.split())
        missed = [word for word in correction.text.split() if word not in heard]
        if store is None or correction.speaker is None or not missed:
            return
        try:
            store.learn(tenant, correction.speaker, missed)
        except HearloopError as error:
            log.warning("The speaker's history does without a correction: %s", error)

    return learn


def _catch_up(feedback: Callable[[], Feedback]) -> None:
    """What had to wait; after the answer, so a failure is for the log and for the next time."""
    try:
        feedback().catch_up()
    except HearloopError as error:
        log.warning("Waiting corrections wait on: %s", error)


def desk(settings: Settings, plausibilities: Plausibilities) -> Callable[[], Feedback]:
    """A function that gives the one Feedback over the settings' services, built when first asked.

    It has a producer of its own: waiting for the event log's acknowledgement of a correction
    must not wait for that of transcriptions.
    """
    lock = threading.Lock()
    built: list[Feedback] = []

    def get() -> Feedback:
        with lock:
            if not built:
                built.append(
                    Feedback(
                        settings=settings,
                        objects=composition.objects(settings),
                        events=composition.events(settings),
                        store=composition.correction_store(settings),
                        plausibilities=plausibilities,
                    )
                )
            return built[0]

    return get


class Models(Protocol):
    """What the standalone service needs of the registry."""

    def champion(self) -> str | None:
        """The version under the alias champion."""

    def fetch(self, version: str, destination: Any) -> Any:
        """A verified copy of its bundle in a local folder."""


class Champion:
    """The registry's champion, loaded when first needed and again when the alias has moved."""

    def __init__(
        self, registry: Models, settings: Settings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._cache = settings.cache / "models"
        self._clock = clock
        self._lock = threading.Lock()
        self._loaded: tuple[str, Recogniser] | None = None
        self._asked_at = float("-inf")

    def plausibilities(self, samples: Samples, texts: Sequence[str]) -> Sequence[float]:
        """Nats per character by the champion of half a minute ago at most.

        Raises ServiceUnavailable while there is none.
        """
        with self._lock:
            if self._clock() - self._asked_at > CHAMPION_SECONDS:
                self._refresh()
            loaded = self._loaded
        if loaded is None:
            raise ServiceUnavailable("The registry has no champion to weigh with yet.")
        return loaded[1].plausibilities(samples, texts)

    def _refresh(self) -> None:
        """Load the champion unless it is loaded; a registry that is away leaves the last one."""
        try:
            version = self._registry.champion()
            if version is not None and (self._loaded is None or self._loaded[0] != version):
                bundle = self._registry.fetch(version, self._cache)
                self._loaded = (version, Recogniser.load(bundle))
        except ServiceUnavailable:
            if self._loaded is None:
                raise
            log.warning("The registry is away; weighing on with version %s", self._loaded[0])
        self._asked_at = self._clock()


def create_app(
    feedback: Callable[[], Feedback],
    reviews: Callable[[], ReviewQueue],
    gate: Gate,
    learn: Learn,
) -> FastAPI:
    """The standalone service: feedback and review routes, a health check and metrics."""
    app = FastAPI(title="Hearloop feedback", docs_url=None, redoc_url=None)
    answer_errors(app)
    app.add_middleware(Boundary, largest=LARGEST_BODY, gate=gate)
    app.include_router(create_router(feedback, reviews, learn))
    registry = CollectorRegistry()
    registry.register(ReviewCollector(feedback))

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """200 when the store of corrections answers."""
        feedback().store.list(limit=1)
        return {"status": "ok"}

    @app.get("/metrics")
    def metrics() -> Response:
        """Prometheus: what waits for review. Fails while the store does not answer."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


def main() -> None:
    """Serve the feedback routes alone."""
    parser = argparse.ArgumentParser(prog="python -m serving.feedback", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=PORT)
    arguments = parser.parse_args()
    settings = Settings()
    champion = Champion(composition.registry(settings), settings)
    reviews = review.queue(settings, champion.plausibilities)
    learn = learning(composition.phrase_store(settings))
    own = Gate(ServerSettings())
    app = create_app(desk(settings, champion.plausibilities), reviews, own, learn)
    with review.intake(settings, reviews):
        uvicorn.run(app, host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    main()
