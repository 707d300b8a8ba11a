"""The rule of a rollout: from its state and the evidence to the next action. Pure.

The canary is compared with the stable version over the same minutes, never with history. The
test is an e-process, so it may be looked at after every answer (Lindon and Malek, Anytime-valid
inference for multinomial count data, arXiv:2205.14762): where both versions fail equally often,
each failed call is the canary's with the probability with which the router sends a call to the
canary. The unit is the call, because the utterances of one call fail together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import TypeAdapter

from hearloop.errors import InvalidInput
from hearloop.recipe import RolloutPolicy

__all__ = [
    "Action",
    "Evidence",
    "Reading",
    "RolloutState",
    "Status",
    "Step",
    "Tally",
    "Traffic",
    "gather",
    "log_e_value",
    "next_step",
]

RISK_RATIOS = np.array([1.5, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128])
"""How many times as often a harmful canary may fail: the alternatives that the test mixes."""

SUSPICION_STEPS = 5
"""A step that is still suspect after so many times the answers it needs is left: more of the same
would not settle it while callers are let down."""

FAILING_SHARE = 0.5
"""A canary that fails more of its calls than this never moves on, however few calls it had."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Which versions answer, and the percentage of new calls that goes to the canary."""

    stable: str
    canary: str | None = None
    canary_percent: int = 0

    def __post_init__(self) -> None:
        """Raises InvalidInput for weights that mean nothing."""
        if self.canary is None and self.canary_percent != 0:
            raise InvalidInput(
                f"canary_percent is {self.canary_percent} but no canary is named; "
                "name a canary or send 0."
            )
        if self.canary is not None and not 0 < self.canary_percent < 100:
            raise InvalidInput(
                f"canary_percent is {self.canary_percent} for canary {self.canary}; send 1 to 99, "
                "or make that version the stable one."
            )
        if self.canary == self.stable:
            raise InvalidInput(
                f"Version {self.stable} cannot be both stable and canary; name two versions."
            )

    @property
    def weights(self) -> dict[str, int]:
        """Percentage of new calls for each version; they sum to 100."""
        if self.canary is None:
            return {self.stable: 100}
        return {self.stable: 100 - self.canary_percent, self.canary: self.canary_percent}


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What one version did since the traffic was last changed.

    `calls` counts the calls that began since then (a request without a call is one of its own);
    `failed_calls` and `empty_calls` are those of them with at least one failure or empty answer.
    """

    requests: int = 0
    failures: int = 0
    empty: int = 0
    calls: int = 0
    failed_calls: int = 0
    empty_calls: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a router says of itself. `epoch` names the stretch that the tallies cover."""

    traffic: Traffic | None
    epoch: str
    tallies: Mapping[str, Tally]


@dataclass(frozen=True, kw_only=True)
class Step:
    """The evidence of one stretch of unchanged traffic."""

    percent: int
    epoch: str
    stable: Tally
    canary: Tally


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a decision rests on."""

    steps: tuple[Step, ...] = ()
    quiet_seconds: float = 0.0
    """Since the canary's last new answer."""
    current: bool = True
    """Whether the router answered just now: without it nothing moves on."""

    def canary_answers(self, percent: int) -> int:
        """How many requests the canary answered while it had `percent` of the traffic."""
        return sum(step.canary.requests for step in self.steps if step.percent == percent)


Status = Literal["running", "paused", "promoted", "rolled_back", "superseded"]


@dataclass(frozen=True, kw_only=True)
class RolloutState:
    """Where the rollout of one version stands: stored before each action is carried out."""

    version: str
    stable: str | None
    """The version that serves when the rollout begins; None for a first model."""
    status: Status = "running"
    percent: int = 0
    """Percentage of new calls that goes to the canary while the rollout is running; kept while it
    is paused, for when it goes on."""
    reason: str = ""
    steps: tuple[Step, ...] = ()
    finished: bool = False
    """Whether the last action was carried out to its end."""
    revision: int = 0
    """Counts the saves, so that two loops over one rollout notice each other."""

    @property
    def traffic(self) -> Traffic | None:
        """The traffic that this state asks for; None: leave it as it is."""
        if self.status == "promoted":
            return Traffic(stable=self.version)
        if self.stable is None or self.status == "superseded":
            return None
        if self.status in ("rolled_back", "paused") or self.percent == 0:
            return Traffic(stable=self.stable)
        return Traffic(stable=self.stable, canary=self.version, canary_percent=self.percent)

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values; `from_json` gives an equal state."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read a stored state."""
        return TypeAdapter(cls).validate_python(dict(value))


@dataclass(frozen=True, kw_only=True)
class Action:
    """What to do next, and why. `percent` is the canary's share after it."""

    kind: Literal["wait", "shift", "promote", "roll_back", "pause"]
    percent: int
    reason: str


def log_e_value(
    canary: ArrayLike, stable: ArrayLike, share: ArrayLike
) -> np.float64 | NDArray[np.float64]:
    """Natural logarithm of the evidence that the canary fails more often than the stable version.

    `canary` and `stable` count failed calls, `share` is the canary's share of calls (0 to 1);
    shape (..., steps), summed over the last axis. Under a canary that fails no more often, the
    e-value exceeds 1/alpha at any time with probability at most alpha (Ville).
    """
    failed_canary, failed_stable = np.asarray(canary)[..., None], np.asarray(stable)[..., None]
    assigned = np.asarray(share, dtype=float)[..., None]
    harmful = assigned * RISK_RATIOS / (assigned * RISK_RATIOS + 1 - assigned)
    gain = failed_canary * np.log(harmful / assigned)
    loss = failed_stable * np.log((1 - harmful) / (1 - assigned))
    return np.logaddexp.reduce((gain + loss).sum(axis=-2), axis=-1) - math.log(len(RISK_RATIOS))


def gather(steps: tuple[Step, ...], reading: Reading, state: RolloutState) -> tuple[Step, ...]:
    """`steps` with what `reading` adds; a reading of other traffic adds nothing."""
    if reading.traffic is None or reading.traffic != state.traffic or not reading.traffic.canary:
        return steps
    step = Step(
        percent=state.percent,
        epoch=reading.epoch,
        stable=reading.tallies.get(reading.traffic.stable, Tally()),
        canary=reading.tallies.get(reading.traffic.canary, Tally()),
    )
    earlier = steps[:-1] if steps and steps[-1].epoch == reading.epoch else steps
    return (*earlier, step)


def next_step(state: RolloutState, evidence: Evidence, policy: RolloutPolicy) -> Action:
    """What the rollout does next. Pure.

    Rolls back as soon as the evidence of harm reaches 1/alpha; moves on only with enough canary
    answers and no suspicion; pauses when no answers come or suspicion does not clear.
    """
    if state.stable is None:
        return Action(kind="promote", percent=100, reason="no version was in service before it")
    if state.percent == 0:
        return Action(kind="shift", percent=policy.steps[0], reason="the rollout begins")
    harm = _harm(evidence.steps)
    if harm >= -math.log(policy.rollback_alpha):
        return Action(kind="roll_back", percent=0, reason=_describe(evidence.steps, harm))
    if not evidence.current:
        return _wait(state, evidence, policy, "the router does not answer")
    answers = evidence.canary_answers(state.percent)
    if answers < policy.requests_per_step:
        return _wait(
            state, evidence, policy, f"{answers} of {policy.requests_per_step} canary answers"
        )
    if harm >= -math.log(policy.rollback_alpha) / 2 or _mostly_fails(evidence.steps):
        suspicion = f"suspicion: {_describe(evidence.steps, harm)}"
        if answers >= SUSPICION_STEPS * policy.requests_per_step:
            return Action(kind="pause", percent=state.percent, reason=suspicion)
        return _wait(state, evidence, policy, suspicion)
    larger = [percent for percent in policy.steps if percent > state.percent]
    reason = f"{answers} canary answers; {_describe(evidence.steps, harm)}"
    if larger:
        return Action(kind="shift", percent=larger[0], reason=reason)
    return Action(kind="promote", percent=100, reason=reason)


def _wait(state: RolloutState, evidence: Evidence, policy: RolloutPolicy, reason: str) -> Action:
    if evidence.quiet_seconds < policy.patience_seconds:
        return Action(kind="wait", percent=state.percent, reason=reason)
    return Action(
        kind="pause",
        percent=state.percent,
        reason=f"no new canary answer for {evidence.quiet_seconds:.0f} s; {reason}",
    )


def _harm(steps: Sequence[Step]) -> float:
    """Natural logarithm of the mean of two e-values, of failures and of empty answers."""
    if not steps:
        return 0.0
    share = [step.percent / 100 for step in steps]
    failures = log_e_value(
        [step.canary.failed_calls for step in steps],
        [step.stable.failed_calls for step in steps],
        share,
    )
    empty = log_e_value(
        [step.canary.empty_calls for step in steps],
        [step.stable.empty_calls for step in steps],
        share,
    )
    return float(np.logaddexp(failures, empty)) - math.log(2)


def _mostly_fails(steps: Sequence[Step]) -> bool:
    def share(tallies: Sequence[Tally]) -> float:
        calls = sum(tally.calls for tally in tallies)
        return sum(tally.failed_calls for tally in tallies) / calls if calls else 0.0

    canary, stable = share([step.canary for step in steps]), share([step.stable for step in steps])
    return canary > FAILING_SHARE and canary > stable


def _describe(steps: Sequence[Step], harm: float) -> str:
    def failed(tallies: Sequence[Tally]) -> str:
        calls = sum(tally.calls for tally in tallies)
        bad = sum(tally.failed_calls for tally in tallies)
        return f"{bad} of {calls} calls failed, {sum(t.empty_calls for t in tallies)} had gaps"

    return (
        f"canary: {failed([step.canary for step in steps])}; "
        f"stable: {failed([step.stable for step in steps])}; e-value {math.exp(harm):.3g}"
    )
