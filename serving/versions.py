"""The versions that the server holds, and which of them answers a call.

New calls are split by a hash of their name, so that the canary gets its percentage; a call stays
on the version that it began with. A version that was replaced by promotion is kept for the calls
that began on it; one that was rolled back is not.
"""

import hashlib
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping

from hearloop.bundle import Bundle
from hearloop.recogniser import Recogniser
from hearloop.rollout import Reading, Traffic
from serving.refusals import NoModel
from serving.tallies import Counter, Outcome, Session

__all__ = ["SESSIONS", "Versions"]

SESSIONS = 50_000
"""Calls that are remembered: about 15 MB, and days of calls for one server."""

IDLE_SECONDS = 900.0
"""A call that was silent for a quarter of an hour is over: its name begins a new one."""


class Versions:
    """Holds stable and canary; safe between threads, and a swap never waits for a request."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, language: str = Bundle.language
    ) -> None:
        """`language`: the tag of what is spoken, as long as no model says it."""
        self._clock = clock
        self._language = language
        self._lock = threading.Lock()
        self._traffic: Traffic | None = None
        self._previous: str | None = None
        self._recognisers: dict[str, Recogniser] = {}
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._epoch = uuid.uuid4().hex
        self._counters: dict[str, Counter] = {}

    @property
    def traffic(self) -> Traffic | None:
        """The traffic in force; None as long as no model is in service."""
        return self._traffic

    def in_service(self) -> Traffic:
        """The traffic in force. Raises NoModel as long as there is none."""
        if self._traffic is None:
            raise NoModel(
                "No model is in service yet; roll one out, or wait until the registry answers."
            )
        return self._traffic

    @property
    def stable(self) -> tuple[str, Recogniser]:
        """The stable version and its recogniser. Raises NoModel without one."""
        with self._lock:
            version = self.in_service().stable
            return version, self._recognisers[version]

    @property
    def language(self) -> str:
        """Tag of the language that is served: the stable version's."""
        with self._lock:
            if self._traffic is None:
                return self._language
            return self._recognisers[self._traffic.stable].tokenizer.language

    def held(self) -> Mapping[str, Recogniser]:
        """Every version that is in memory."""
        with self._lock:
            return dict(self._recognisers)

    def swap(self, traffic: Traffic, recognisers: Mapping[str, Recogniser]) -> None:
        """Put new traffic in force at once. `recognisers` has each version that it names."""
        with self._lock:
            if traffic == self._traffic:
                return
            if self._traffic is not None and self._traffic.stable != traffic.stable:
                self._previous = self._traffic.stable
            held = {**self._recognisers, **recognisers}
            keep = {traffic.stable, traffic.canary, self._previous}
            self._recognisers = {name: held[name] for name in held if name in keep}
            self._traffic = traffic
            self._epoch = uuid.uuid4().hex
            self._counters = {}

    def choose(self, call: str | None, request_id: str) -> tuple[Session, Recogniser]:
        """The session of a call, or of a single request, and the recogniser that answers it.

        Raises NoModel as long as no model is in service.
        """
        now = self._clock()
        with self._lock:
            traffic = self.in_service()
            session = self._sessions.get(call) if call else None
            if session is None or not self._goes_on(session, now):
                version = _assign(call or request_id, traffic)
                session = Session(version=version, epoch=self._epoch, seen=now)
            session.seen = now
            if call:
                self._remember(call, session)
            return session, self._recognisers[session.version]

    def count(self, session: Session, outcome: Outcome, seconds: float) -> None:
        """Record how the session's version dealt with one request."""
        with self._lock:
            counter = self._counters.setdefault(session.version, Counter())
            counter.add(session, outcome, seconds, self._epoch)

    def reading(self) -> Reading:
        """The traffic, and what each version did since it was set."""
        with self._lock:
            tallies = {version: counter.tally() for version, counter in self._counters.items()}
            return Reading(traffic=self._traffic, epoch=self._epoch, tallies=tallies)

    def _goes_on(self, session: Session, now: float) -> bool:
        return session.version in self._recognisers and now - session.seen < IDLE_SECONDS

    def _remember(self, call: str, session: Session) -> None:
        self._sessions[call] = session
        self._sessions.move_to_end(call)
        if len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)


def _assign(name: str, traffic: Traffic) -> str:
    """The version of a new call. The canary salts the hash: each rollout draws other calls."""
    if traffic.canary is None:
        return traffic.stable
    digest = hashlib.sha256(f"{traffic.canary}|{name}".encode()).digest()
    drawn = int.from_bytes(digest[:8], "big") % 10_000
    return traffic.canary if drawn < traffic.canary_percent * 100 else traffic.stable
