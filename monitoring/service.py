"""The drift monitor behind HTTP: one thread watches, the routes tell what it knows.

GET /healthz        200 while it watches, 503 with the reason while it cannot
GET /v1/status      calls, alarms, evidence, runs
GET /v1/decisions   every decision with its evidence, the ones to do nothing too
GET /metrics        Prometheus
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from hearloop.drift.watch import Watch
from hearloop.errors import ServiceUnavailable
from hearloop.storage.tables import Decision
from monitoring.metrics import WatchCollector

__all__ = ["DecisionReader", "Loop", "create_app"]

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""How long one look at the event log waits: the delay of a decision and of a shutdown."""

DECIDE_SECONDS = 2.0
"""Between two decisions: each reads the registry, the corrections and the runs."""

RETRY_SECONDS = 2.0
"""Before the next try after a service did not answer."""


class DecisionReader(Protocol):
    """Reads the log of decisions."""

    def list(
        self, *, kind: str | None = None, subject: str | None = None, after: int = 0
    ) -> Sequence[Decision]:
        """Decisions with a sequence number above `after`, oldest first."""


class Loop:
    """Listens and decides in one thread until it is stopped.

    A service that does not answer is waited for. Any other error ends the loop and calls
    `crashed`, so that a supervisor starts a fresh monitor from the stored state.
    """

    def __init__(self, watch: Watch, *, crashed: Callable[[], None]) -> None:
        self._watch = watch
        self._on_crash = crashed
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.errors = 0
        """Times that a service did not answer."""
        self.trouble = ""
        """Why the monitor cannot watch at the moment; empty while it can."""
        self.crashed = False

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being done, and stop."""
        self._stopping.set()
        self._thread.join()

    def status(self) -> dict[str, Any]:
        """What `/v1/status` answers."""
        return self._watch.status() | {"errors": self.errors, "trouble": self.trouble}

    def _run(self) -> None:
        decide_at = 0.0
        try:
            while not self._stopping.is_set():
                try:
                    self._watch.listen(POLL_SECONDS)
                    if time.monotonic() >= decide_at:
                        self._watch.decide()
                        decide_at = time.monotonic() + DECIDE_SECONDS
                    self.trouble = ""
                except ServiceUnavailable as error:
                    self._wait_for(error)
        except BaseException as error:
            self.trouble = f"The monitor has ended: {error!r}"
            log.exception("The monitor ends and has to be started again")
            self.crashed = True
            self._on_crash()

    def _wait_for(self, error: ServiceUnavailable) -> None:
        if self.trouble != str(error):
            log.warning("%s", error)
        self.errors += 1
        self.trouble = str(error)
        self._stopping.wait(RETRY_SECONDS)


def create_app(loop: Loop, decisions: DecisionReader) -> FastAPI:
    """The routes over a loop that somebody else starts and stops."""
    app = FastAPI(title="Hearloop drift monitor")
    registry = CollectorRegistry()
    registry.register(WatchCollector(loop.status))

    @app.get("/healthz")
    def healthz() -> JSONResponse:
        trouble = loop.trouble
        return JSONResponse(
            {"status": "waiting" if trouble else "watching", "reason": trouble},
            status_code=503 if trouble else 200,
        )

    @app.get("/v1/status")
    def status() -> dict[str, Any]:
        return loop.status()

    @app.get("/v1/decisions")
    def list_decisions(
        kind: str | None = None, subject: str | None = None, after: int = 0
    ) -> list[dict[str, Any]]:
        return [
            asdict(decision) for decision in decisions.list(kind=kind, subject=subject, after=after)
        ]

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app
