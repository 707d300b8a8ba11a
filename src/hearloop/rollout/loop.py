"""The loop that carries a rollout out: read the router, decide, store, and only then act.

A rollout that is killed anywhere resumes from the store: every action is stored before it is
carried out, and every action may be carried out twice.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Protocol, TypeVar

from hearloop.errors import ConfigurationError, ServiceUnavailable, VersionRefused
from hearloop.ports import DecisionLog
from hearloop.recipe import RolloutPolicy
from hearloop.rollout.rule import (
    Action,
    Evidence,
    Reading,
    RolloutState,
    Status,
    Step,
    Traffic,
    gather,
    next_step,
)
from hearloop.telemetry import Progress

__all__ = [
    "Clock",
    "ModelRegistry",
    "RolloutStore",
    "Router",
    "SystemClock",
    "roll_out",
]

POLL_SECONDS = 0.5
"""Between two readings of the router: a step lasts for tens of answers, several seconds."""

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Router(Protocol):
    """Splits the traffic: the model server here, an InferenceService in a cluster."""

    def read(self) -> Reading:
        """The traffic and the evidence since it was set. Raises ServiceUnavailable."""

    def write(self, traffic: Traffic) -> None:
        """Set the traffic; setting what is set already changes nothing.

        Raises VersionRefused when a version fails its checks (the old traffic stays) and
        ServiceUnavailable.
        """


class RolloutStore(Protocol):
    """Keeps the state of each rollout."""

    def read(self, version: str) -> RolloutState | None:
        """The rollout of `version`, or None."""

    def unfinished(self) -> Sequence[RolloutState]:
        """The rollouts that have not finished, oldest first."""

    def save(self, state: RolloutState) -> RolloutState:
        """Store the state as its next revision. Raises Conflict when another loop saved first."""


class ModelRegistry(Protocol):
    """The part of the model registry that a rollout needs."""

    def promote(self, version: str) -> None:
        """Move the champion alias to `version`."""


class Clock(Protocol):
    """Time, so that tests need not wait for it."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        time.sleep(seconds)


def roll_out(
    version: str,
    *,
    router: Router,
    store: RolloutStore,
    policy: RolloutPolicy,
    registry: ModelRegistry,
    decisions: DecisionLog,
    progress: Progress,
    clock: Clock | None = None,
) -> RolloutState:
    """Roll `version` out until it is promoted, rolled back or paused; returns the last state.

    A first model goes straight to 100 %. Where no answers come it pauses: as nobody watches the
    canary then, it gets no calls. Called again for a rollout that was killed or paused, it
    resumes; for one that has ended, it returns how, unless the version was promoted and has
    been replaced since: then it is rolled out anew. `progress` advances by canary
    answers. Raises ServiceUnavailable when the router or the registry stays away longer than the
    policy's patience, Conflict when another loop drives the same rollout or a newer version
    took its place, ConfigurationError for a policy without steps.
    """
    if not policy.steps or list(policy.steps) != sorted({*policy.steps} & {*range(1, 100)}):
        raise ConfigurationError(
            f"The rollout's steps are {policy.steps}; give ascending percentages from 1 to 99."
        )
    loop = _Loop(router, store, policy, registry, decisions, progress, clock or SystemClock())
    return loop.run(loop.begin(version))


_STATUS_AFTER: dict[str, Status] = {
    "shift": "running",
    "promote": "promoted",
    "roll_back": "rolled_back",
    "pause": "paused",
}


class _Loop:
    def __init__(
        self,
        router: Router,
        store: RolloutStore,
        policy: RolloutPolicy,
        registry: ModelRegistry,
        decisions: DecisionLog,
        progress: Progress,
        clock: Clock,
    ) -> None:
        self.router, self.store, self.policy = router, store, policy
        self.registry, self.decisions = registry, decisions
        self.progress, self.clock = progress, clock

    def begin(self, version: str) -> RolloutState:
        """The stored rollout of `version`, or a new one that takes the place of unfinished ones."""
        state = self.store.read(version)
        if state is not None and not (state.finished and state.status == "promoted"):
            return self._resume(state)
        traffic = self._patiently(self.router.read).traffic
        if state is not None and traffic is not None and traffic.stable == version:
            return state
        revision = state.revision if state else 0
        traffic = self._clear_the_way(version) or traffic
        state = RolloutState(
            version=version, stable=traffic.stable if traffic else None, revision=revision
        )
        if state.stable == version:
            state = replace(
                state, status="promoted", percent=100, reason="it was in service already"
            )
        return self.store.save(state)

    def _clear_the_way(self, version: str) -> Traffic | None:
        """End the rollouts of other versions; returns the traffic of one that was decided."""
        traffic = None
        for other in self.store.unfinished():
            if other.status in ("promoted", "rolled_back"):
                traffic = self._finish(other).traffic or traffic
            elif other.version != version:
                reason = f"version {version} took its place"
                replaced = replace(other, status="superseded", finished=True, reason=reason)
                self._record(self.store.save(replaced), "superseded")
        return traffic

    def _resume(self, state: RolloutState) -> RolloutState:
        if state.status != "paused":
            return state
        return self.store.save(replace(state, status="running", reason="resumed"))

    def run(self, state: RolloutState) -> RolloutState:
        """Take steps until the rollout is promoted, rolled back or paused."""
        heard = self.clock.monotonic()
        while state.status == "running":
            state, reading = self._settle(state)
            if state.status != "running":
                break
            steps = gather(state.steps, reading, state) if reading else state.steps
            answers = _answers(steps) - _answers(state.steps)
            if answers:
                heard = self.clock.monotonic()
                self.progress.advance(answers)
            evidence = Evidence(
                steps=steps,
                quiet_seconds=self.clock.monotonic() - heard,
                current=reading is not None,
            )
            action = next_step(state, evidence, self.policy)
            if action.kind == "shift":
                heard = self.clock.monotonic()
            state = self._store(state, action, steps)
            if action.kind == "wait":
                self.clock.sleep(POLL_SECONDS)
        return state if state.finished else self._finish(state)

    def _settle(self, state: RolloutState) -> tuple[RolloutState, Reading | None]:
        """Bring the router to the stored traffic, then read it; None when it does not answer."""
        try:
            reading = self.router.read()
            if state.traffic not in (None, reading.traffic):
                self.router.write(state.traffic)
                reading = self.router.read()
            return state, reading
        except VersionRefused as error:
            refused = replace(state, status="rolled_back", percent=0, reason=f"refused: {error}")
            return self.store.save(refused), None
        except ServiceUnavailable as error:
            log.warning("The rollout of version %s waits: %s", state.version, error)
            return state, None

    def _store(self, state: RolloutState, action: Action, steps: tuple[Step, ...]) -> RolloutState:
        """Store what was decided, before anything is done about it."""
        if action.kind == "wait":
            return state if steps == state.steps else self.store.save(replace(state, steps=steps))
        log.info(
            "Rollout of version %s: %s to %d %%: %s",
            state.version,
            action.kind,
            action.percent,
            action.reason,
        )
        status: Status = _STATUS_AFTER[action.kind]
        state = self.store.save(
            replace(state, status=status, percent=action.percent, reason=action.reason, steps=steps)
        )
        if status == "running":
            self._record(state, f"shift to {action.percent} %")
        return state

    def _finish(self, state: RolloutState) -> RolloutState:
        """Carry the last decision out to its end; every part of it may be repeated."""
        if state.status == "paused":
            return self._withdraw(state)
        traffic = state.traffic
        if traffic is not None:
            try:
                self._patiently(lambda: self.router.write(traffic))
            except VersionRefused as error:
                return self._finish(
                    self.store.save(
                        replace(state, status="rolled_back", percent=0, reason=f"refused: {error}")
                    )
                )
        if state.status == "promoted":
            self._patiently(lambda: self.registry.promote(state.version))
        self._record(state, state.status)
        return self.store.save(replace(state, finished=True))

    def _withdraw(self, state: RolloutState) -> RolloutState:
        """Send no calls to a canary that nobody watches, if the router takes that."""
        try:
            if state.traffic is not None:
                self.router.write(state.traffic)
        except ServiceUnavailable as error:
            log.warning("The paused version %s keeps its share of calls: %s", state.version, error)
        self._record(state, state.status)
        return state

    def _record(self, state: RolloutState, decision: str) -> None:
        identity = f"rollout|{state.version}|{state.revision}|{decision}"
        self.decisions.append(
            kind="rollout",
            subject=state.version,
            decision=decision,
            reason=state.reason,
            identity=hashlib.sha256(identity.encode()).hexdigest(),
            evidence={"stable": state.stable, "steps": [asdict(step) for step in state.steps]},
        )

    def _patiently(self, call: Callable[[], _T]) -> _T:
        """`call`, again and again while a service is away, within the policy's patience."""
        began = self.clock.monotonic()
        while True:
            try:
                return call()
            except ServiceUnavailable:
                if self.clock.monotonic() - began >= self.policy.patience_seconds:
                    raise
                self.clock.sleep(POLL_SECONDS)


def _answers(steps: Sequence[Step]) -> int:
    return sum(step.canary.requests for step in steps)
