"""When to retrain: a pure function of recorded evidence.

    fire = (due or harm) and enough new corrected minutes and cooldown over and budget left
           and none in flight

A shift alarm never retrains: it asks for labels, by raising the share of calls that are put up for
review. What comes back shows harm, or clears the alarm.
"""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from hearloop.drift.harm import Harm
from hearloop.errors import ConfigurationError, first_mistake
from hearloop.review import AUDITED_CALLS, is_audited

__all__ = [
    "Decision",
    "Evidence",
    "MonitorPolicy",
    "Reason",
    "ask_for_review",
    "harmful",
    "review_share",
    "run_id",
    "trigger",
]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class MonitorPolicy:
    """What the monitor may do, and how sure it has to be."""

    arl_calls: Positive = 10_000.0
    """Average number of unchanged calls between two false shift alarms, over all signals."""
    reference_error: Share = 0.01
    """Chance, over the draw of the reference speakers, that the run length above is not held."""
    close_after_calls: Annotated[int, Field(ge=1)] = 20
    """A call is over when so many others have begun since its last utterance. More than the calls
    that one partition of the event log carries at a time."""
    idle_seconds: Positive = 60.0
    """A call is over when nothing came for so long, by the times in the events."""
    review_share: Share = AUDITED_CALLS
    """Share of calls put up for review at all times: what people choose to correct is biased."""
    review_share_after_shift: Share = 0.25
    """The same while a shift alarm stands that no label has cleared."""
    harm_error: Share = 0.01
    """Chance that an unharmed champion is ever called harmful, were the calls only appended to and
    none corrected anew (`hearloop.drift.harm`)."""
    harm_margin: Share = 0.05
    """How far the word error rate on corrected calls must lie above the champion's own in its
    hardest known condition: an absolute fraction that exceeds what the finite reference and calls
    that are corrected anew leave open."""
    enough_minutes: Positive = 30.0
    """Accepted corrections, in minutes of audio, since the last run that learnt from any."""
    every_hours: Positive = 7 * 24.0
    """Schedule: a retrain is due so long after the last run or promotion, harm or no harm."""
    cooldown_hours: NotNegative = 24.0
    """Shortest time between the starts of two runs."""
    budget_runs: Annotated[int, Field(ge=0)] = 4
    """Runs that may start within `budget_hours`; failed ones count."""
    budget_hours: Positive = 30 * 24.0

    @classmethod
    def from_json(cls, text: str) -> "MonitorPolicy":
        """Read a policy; fields left out keep their defaults. Raises ConfigurationError."""
        try:
            return _ADAPTER.validate_json(text, extra="forbid")
        except ValidationError as error:
            raise ConfigurationError(
                f"The monitor's policy is {first_mistake(error)}; correct it."
            ) from error


_ADAPTER: TypeAdapter[MonitorPolicy] = TypeAdapter(MonitorPolicy)

Reason = Literal[
    "harm",
    "due",
    "no champion",
    "run in flight",
    "neither due nor harm",
    "too few corrections",
    "cooldown",
    "budget spent",
]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that the decision rests on; stored with it."""

    champion: str | None
    """Model version, None before the first."""
    shift: bool
    """Whether a shift alarm stands. It asks for labels and has no say in the trigger."""
    harm: Harm
    """Word error rate of the champion on corrected and confirmed calls."""
    reference_wer: float | None
    """The champion's in its hardest known condition; None without a reference."""
    corrected_minutes: float
    """Accepted, since the last run that learnt from any."""
    quarantined_minutes: float
    """Of the same time, held back by the screen: they count for nothing."""
    hours_since_learning: float
    """Since the last run started or the champion was promoted, whichever is later."""
    hours_since_run: float | None
    """Since the last run started; None before the first."""
    runs_in_budget: int
    """Runs that started within the budget's window."""
    in_flight: str | None
    """Id of the run that has not ended."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether to start a run, and the reason in a word and in a sentence."""

    fire: bool
    reason: Reason
    detail: str


def harmful(evidence: Evidence, policy: MonitorPolicy) -> bool:
    """Whether the champion is worse on corrected calls than it ever was when judged."""
    if evidence.reference_wer is None:
        return False
    return evidence.harm.lower > evidence.reference_wer + policy.harm_margin


def trigger(evidence: Evidence, policy: MonitorPolicy) -> Decision:
    """Decide on a retrain. Harm bypasses the schedule, never the budget or the cooldown."""
    harm = harmful(evidence, policy)
    due = evidence.hours_since_learning >= policy.every_hours
    e, p = evidence, policy
    if e.champion is None:
        return _hold("no champion", "There is no champion to start from; run the pipeline first.")
    if e.in_flight is not None:
        return _hold("run in flight", f"Run {e.in_flight} has not ended.")
    if not (harm or due):
        return _hold("neither due nor harm", _harm_sentence(e, p))
    if e.corrected_minutes < p.enough_minutes:
        return _hold(
            "too few corrections",
            f"{e.corrected_minutes:.1f} new corrected minutes of {p.enough_minutes:g} "
            f"({e.quarantined_minutes:.1f} more are quarantined): more labels are needed.",
        )
    if e.hours_since_run is not None and e.hours_since_run < p.cooldown_hours:
        return _hold(
            "cooldown",
            f"The last run began {e.hours_since_run:.2f} h ago; "
            f"{p.cooldown_hours:g} h have to pass.",
        )
    if e.runs_in_budget >= p.budget_runs:
        return _hold(
            "budget spent",
            f"{e.runs_in_budget} runs began within {p.budget_hours:g} h; {p.budget_runs} may.",
        )
    if harm:
        return Decision(fire=True, reason="harm", detail=_harm_sentence(e, p))
    return Decision(
        fire=True,
        reason="due",
        detail=f"Nothing was learnt for {e.hours_since_learning:.1f} h, and "
        f"{e.corrected_minutes:.1f} corrected minutes have come in.",
    )


def _hold(reason: Reason, detail: str) -> Decision:
    return Decision(fire=False, reason=reason, detail=detail)


def _harm_sentence(e: Evidence, p: MonitorPolicy) -> str:
    if e.reference_wer is None:
        return "The champion has no reference, so that its harm cannot be judged."
    return (
        f"WER on {e.harm.calls} corrected calls lies between {e.harm.lower:.1%} and "
        f"{e.harm.upper:.1%}; harm begins above {e.reference_wer + p.harm_margin:.1%}."
    )


def review_share(evidence: Evidence, policy: MonitorPolicy) -> float:
    """Share of calls to put up for review: more while a shift is unexplained.

    Labels clear a shift when even the upper bound of the word error rate shows no harm.
    """
    cleared = (
        evidence.reference_wer is not None
        and evidence.harm.upper <= evidence.reference_wer + policy.harm_margin
    )
    if evidence.shift and not cleared:
        return policy.review_share_after_shift
    return policy.review_share


def ask_for_review(call: str, share: float) -> bool:
    """Whether `call` is among the share put up for review.

    The same calls on every machine; a larger share holds all calls of a smaller one.
    """
    return is_audited(call, share)


def run_id(*, corrections: str, base: str, recipe: str, epoch: int) -> str:
    """Identity of a retrain: the same evidence at the same epoch is the same run.

    `corrections`: digest of the corrections to learn from. `base`: version of the champion.
    `epoch`: number of runs that the monitor claimed before.
    """
    identity = "\n".join([corrections, base, recipe, str(epoch)])
    return f"retrain-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
