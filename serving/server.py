"""The server as a whole: KServe's, with our routes around it and a clean end."""

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import kserve
import uvicorn
import uvloop
from fastapi import FastAPI
from kserve.model_server import app as kserve_app

from hearloop import composition
from hearloop.audio import Limits, Samples
from hearloop.config import Settings
from hearloop.feedback import Feedback, Plausibilities
from serving import feedback, metrics, page, realtime, review, tracing, traffic, transcription
from serving.access import Gate
from serving.boundary import Boundary
from serving.decoder import LONG
from serving.decoders import Decoders
from serving.expiry import expiring
from serving.live import Live
from serving.loading import loader
from serving.long_files import LongFiles
from serving.model import FixedRepository, SpeechDataPlane, SpeechModel
from serving.phrases import Phrases
from serving.refusals import answer_errors
from serving.request_log import RequestLog
from serving.settings import ServerSettings
from serving.transcriber import Transcriber
from serving.versions import Versions

__all__ = ["Doors", "Listening", "mount", "serve", "weighing"]

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "::1", "localhost")

LARGEST_BODY = Limits().bytes * 3 // 2
"""The largest recording in base64 (4/3) with room for what stands around it."""

LARGEST_FILE = LONG.bytes + 2**20
"""Bytes of a body with a long recording: it lies in a file while it is transcribed."""

LARGEST_MESSAGE = 4 * 2**20
"""Bytes of a WebSocket message: a minute of audio in base64."""

GRACE_SECONDS = 10
"""For requests that are being answered when the server is told to stop."""

REFUSAL_SECONDS = 2.0
"""Before these are over: to tell those who are still sending, instead of cutting them off."""

DRAIN_SECONDS = 10.0
"""For logging what was answered: with the grace, less than the 30 s that Kubernetes waits."""


@dataclass(frozen=True, kw_only=True)
class Listening:
    """Where the server listens. Without `grpc_port` it speaks REST only."""

    http_host: str
    http_port: int
    grpc_port: int | None = None


class _SpeechServer(kserve.ModelServer):
    def __init__(
        self,
        listening: Listening,
        versions: Versions,
        drain: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """`drain` ends what takes long, before connections are closed."""
        super().__init__(
            http_port=listening.http_port,
            grpc_port=listening.grpc_port or 0,
            enable_grpc=listening.grpc_port is not None,
            workers=1,  # the traffic and its evidence live in one process
            enable_latency_logging=False,
            grace_period=GRACE_SECONDS,
        )
        self._http_host = listening.http_host
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None
        self.dataplane = SpeechDataPlane(self.registered_models, versions)
        self.model_repository_extension = FixedRepository(self.registered_models)

    def setup_event_loop(self) -> None:
        """KServe's own settings go to a loop that `asyncio.run` then does not use."""
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

    async def _serve(self) -> None:
        config = self._rest_server.config  # KServe has no settings for these
        config.host = self._http_host
        config.ws_max_size = LARGEST_MESSAGE
        config.ws_per_message_deflate = False  # audio in base64 hardly shrinks, and costs a core
        self._drain_before_exit(self._rest_server._server)
        await super()._serve()

    def _drain_before_exit(self, server: uvicorn.Server) -> None:
        """Let what takes long end before uvicorn closes connections; a second signal hurries."""
        loop, leave = asyncio.get_running_loop(), server.handle_exit

        async def drain(number: int, frame: FrameType | None) -> None:
            await self._drain()
            leave(number, frame)

        def handle_exit(number: int, frame: FrameType | None) -> None:
            if self._draining is None:
                begin = functools.partial(self._begin_draining, drain, number, frame)
                loop.call_soon_threadsafe(begin)
            else:
                leave(number, frame)

        server.handle_exit = handle_exit  # type: ignore[method-assign, assignment]

    def _begin_draining(
        self,
        drain: Callable[[int, FrameType | None], Coroutine[Any, Any, None]],
        number: int,
        frame: FrameType | None,
    ) -> None:
        self._draining = self._draining or asyncio.ensure_future(drain(number, frame))


def serve(settings: Settings, own: ServerSettings, listening: Listening) -> None:
    """Serve until SIGTERM or SIGINT; what was answered is logged before this returns."""
    gate = Gate(own)
    if not gate.asks and listening.http_host not in LOOPBACK:
        log.warning(
            "Nobody is asked for a token on %s: set HEARLOOP_SERVER_TOKENS or "
            "HEARLOOP_SERVER_JWKS_URL, unless a gateway asks.",
            listening.http_host,
        )
    tracing.set_up()
    objects, events = composition.objects(settings), composition.events(settings)
    request_log = RequestLog(settings, objects, events, lambda tenant: own.tenant(tenant).kept_days)
    versions = Versions(language=settings.language)
    cores = len(os.sched_getaffinity(0))
    decoders = Decoders(cores)
    store = composition.phrase_store(settings)
    phrases = Phrases(own.tenant, store)
    transcriber = Transcriber(versions, request_log, cores, decoders.decode, phrases)
    long_decoders = Decoders(1)
    control = traffic.TrafficControl(
        versions,
        loader(settings, own),
        composition.traffic_store(settings),
        pinned=settings.model_version,
    )
    live = Live(versions, request_log, own.most_streams)
    long_files = LongFiles(versions, request_log, long_decoders.blocks, phrases)

    closing = asyncio.Event()

    async def drain() -> None:
        seconds = own.drain_seconds
        await asyncio.gather(live.drain(seconds), long_files.drain(seconds))
        asyncio.get_running_loop().call_later(GRACE_SECONDS - REFUSAL_SECONDS, closing.set)

    metrics.expose(versions, request_log)
    doors = Doors(
        versions=versions,
        control=control,
        transcriber=transcriber,
        long_files=long_files,
        live=live,
        phrases=phrases,
        desk=feedback.desk(settings, weighing(versions)),
        learn=feedback.learning(store),
        gate=gate,
        closing=closing,
    )
    mount(kserve_app, settings, doors)
    model = SpeechModel(settings.model_name, versions, transcriber, control.restore, gate)
    try:
        with (
            review.intake(settings, review.queue(settings, weighing(versions))),
            expiring(objects, settings.buckets.audio),
        ):
            _SpeechServer(listening, versions, drain).start([model])
    finally:
        decoders.close()
        long_decoders.close()
        request_log.close(DRAIN_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Doors:
    """What the routes lead to."""

    versions: Versions
    control: traffic.TrafficControl
    transcriber: Transcriber
    long_files: LongFiles
    live: Live
    phrases: Phrases
    desk: Callable[[], Feedback]
    learn: feedback.Learn
    gate: Gate
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when bodies that are still being sent are not waited for any longer."""


def mount(
    app: FastAPI,
    settings: Settings,
    doors: Doors,
    largest: int = LARGEST_BODY,
    largest_file: int = LARGEST_FILE,
) -> None:
    """Put our routes, errors and bounds on KServe's application, before it adds its own."""
    name, weigh = settings.model_name, weighing(doors.versions)
    reviews = review.queue(settings, weigh)

    def language() -> str:
        return doors.versions.language

    app.include_router(traffic.create_router(doors.versions, doors.control))
    app.include_router(
        transcription.create_router(doors.transcriber, doors.long_files, name, language)
    )
    app.include_router(
        realtime.create_router(doors.live, doors.gate, doors.phrases, name, language)
    )
    app.include_router(feedback.create_router(doors.desk, reviews, doors.learn))
    app.include_router(page.create_router())
    answer_errors(app)
    bounds = {transcription.TRANSCRIPTION_ROUTE: largest_file}
    app.add_middleware(
        Boundary, largest=largest, of_routes=bounds, gate=doors.gate, closing=doors.closing
    )


def weighing(versions: Versions) -> Plausibilities:
    """How well texts fit a recording, by the stable version in service."""

    def plausibilities(samples: Samples, texts: Sequence[str]) -> Sequence[float]:
        _, recogniser = versions.stable
        return recogniser.plausibilities(samples, texts)

    return plausibilities
