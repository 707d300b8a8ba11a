"""Changing the traffic of the running server, and finding it again after a restart.

A version is fetched from the registry, verified and warmed up before it takes a request; one
that fails is refused and what was in force serves on. What is accepted is stored first, so that
the server comes back with it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, StrictInt, TypeAdapter

from hearloop.errors import (
    Conflict,
    HearloopError,
    ServiceUnavailable,
    VersionRefused,
)
from hearloop.recogniser import Recogniser
from hearloop.rollout import Reading, Traffic
from hearloop.rollout.http import TRAFFIC_ROUTE
from serving.loading import Loader
from serving.versions import Versions

__all__ = ["TrafficControl", "TrafficStore", "create_router"]

RESTORE_SECONDS = 5.0
"""Between two tries to find the traffic while the database or the registry is away."""

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class TrafficStore(Protocol):
    """Keeps the traffic that was accepted last."""

    def read(self) -> tuple[Traffic, Mapping[str, str]] | None:
        """The stored traffic and the digests of its versions' bundles, or None."""

    def write(self, traffic: Traffic, bundles: Mapping[str, str]) -> None:
        """Store the traffic and the digests."""


class TrafficControl:
    """Sets the traffic, one change at a time, beside the requests and never in their way.

    `pinned`: the one version that this server serves, where others route between servers; it then
    takes no other traffic.
    """

    def __init__(
        self,
        versions: Versions,
        loader: Loader,
        store: TrafficStore,
        pinned: str = "",
    ) -> None:
        self._versions = versions
        self._loader = loader
        self._store = store
        self._pinned = pinned
        self._changing = asyncio.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="traffic")

    async def put(self, traffic: Traffic) -> Reading:
        """Put `traffic` in force.

        Raises VersionRefused when a version fails its checks, Conflict in a server that is pinned
        to a version, and ServiceUnavailable when the registry or the database is away; the old
        traffic serves on then.
        """
        if self._pinned:
            raise Conflict(
                f"This server is pinned to version {self._pinned} by HEARLOOP_MODEL_VERSION; the "
                "traffic is set in the InferenceService."
            )
        async with self._changing:
            await self._aside(lambda: self._put(traffic))
        return self._versions.reading()

    async def restore(self) -> None:
        """Put the pinned version in force, else the stored traffic, else the champion; tries until
        the stores answer.

        Ends at once when someone has set the traffic meanwhile, or when there is nothing yet.
        """
        while self._versions.traffic is None:
            try:
                async with self._changing:
                    await self._aside(self._restore)
                return
            except ServiceUnavailable as error:
                log.warning("The traffic cannot be restored yet: %s", error)
            except HearloopError as error:
                log.error("The traffic cannot be restored: %s", error)
                return
            await asyncio.sleep(RESTORE_SECONDS)

    async def _aside(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _restore(self) -> None:
        if self._versions.traffic is not None:
            return
        if self._pinned:
            alone = Traffic(stable=self._pinned)
            self._swap(alone, self._load_all(alone, {}))
            return
        stored = self._store.read()
        if stored is None:
            champion = self._loader.registry().champion()
            if champion is None:
                log.info("No version is registered yet: waiting for the first rollout")
                return
            stored = Traffic(stable=champion), {}
        traffic, bundles = stored
        try:
            self._swap(traffic, self._load_all(traffic, bundles))
        except VersionRefused as error:
            if traffic.canary is None:
                raise
            log.error("The stable version serves alone: %s", error)
            alone = Traffic(stable=traffic.stable)
            self._swap(alone, self._load_all(alone, bundles))

    def _put(self, traffic: Traffic) -> None:
        recognisers = self._load_all(traffic, {})
        self._store.write(
            traffic, {version: one.bundle.digest for version, one in recognisers.items()}
        )
        self._swap(traffic, recognisers)

    def _swap(self, traffic: Traffic, recognisers: Mapping[str, Recogniser]) -> None:
        self._versions.swap(traffic, recognisers)
        log.info("The traffic is now %s", traffic.weights)

    def _load_all(self, traffic: Traffic, bundles: Mapping[str, str]) -> dict[str, Recogniser]:
        """The recognisers of the traffic: those in memory, and the others fetched and checked."""
        held = self._versions.held()
        return {
            version: held.get(version) or self._loader.load(version, bundles.get(version))
            for version in traffic.weights
        }


class _NewTraffic(BaseModel):
    """The body of a PUT."""

    model_config = ConfigDict(extra="forbid")

    stable: str
    canary: str | None = None
    canary_percent: StrictInt = 0


def create_router(versions: Versions, control: TrafficControl) -> APIRouter:
    """The admin routes that a rollout drives."""
    router = APIRouter(tags=["rollout"])
    readings = TypeAdapter(Reading)

    @router.get(TRAFFIC_ROUTE)
    async def read() -> dict[str, object]:
        """The traffic, and what each version did since it was set."""
        return _body(readings.dump_python(versions.reading(), mode="json"))

    @router.put(TRAFFIC_ROUTE)
    async def write(new: _NewTraffic) -> dict[str, object]:
        """Set the traffic. 422 when a version fails its checks: the old traffic serves on."""
        traffic = Traffic(stable=new.stable, canary=new.canary, canary_percent=new.canary_percent)
        return _body(readings.dump_python(await control.put(traffic), mode="json"))

    def _body(reading: dict[str, object]) -> dict[str, object]:
        traffic = versions.traffic
        return {**reading, "weights": traffic.weights if traffic else {}}

    return router
