"""From corrections to a retrain: evidence, decision, claim, launch, and what became of it."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol

from hearloop.corrections import Correction, Ruling
from hearloop.drift.harm import Harm, bounds, call_wers
from hearloop.drift.policy import Decision, Evidence, MonitorPolicy, run_id, trigger
from hearloop.drift.runs import Run, Runs
from hearloop.drift.state import State
from hearloop.errors import ConfigurationError
from hearloop.ports import DecisionLog, PipelineLauncher
from hearloop.recipe import CorrectionsCorpus, Recipe
from hearloop.scoring import count_words

__all__ = ["Corrections", "Retrains"]

log = logging.getLogger(__name__)

LAUNCH_GRACE_HOURS = 60 / 3600
"""A minute: a run that was claimed so long ago and is unknown to its launcher was claimed by a
monitor that died in between, and whoever sees it launches it."""


class Corrections(Protocol):
    """The part of the store of corrections that the monitor uses."""

    def last(self) -> int:
        """Highest sequence number given out."""

    def fingerprint(self, *, after: int = 0, up_to: int | None = None) -> str:
        """Differs when a correction of the range came in, was weighed, or was ruled on since."""

    def screen(self, *, after: int = 0, up_to: int | None = None) -> Mapping[str, Ruling]:
        """Rule on the corrections of the range together and store the rulings."""

    def list(self, *, after: int = 0, up_to: int | None = None) -> Sequence[Correction]:
        """Corrections with `after` < sequence <= `up_to`, in sequence order."""

    def digest(self, *, after: int = 0, up_to: int | None = None) -> str:
        """Digest of the accepted corrections of the range."""


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Evidence, and what a run that it starts would learn from."""

    evidence: Evidence
    epoch: int
    after: int
    up_to: int
    accepted: int


class Retrains:
    """Starts retrains by the trigger, and follows them. All that it keeps is outside."""

    def __init__(
        self,
        *,
        corrections: Corrections,
        decisions: DecisionLog,
        launcher: PipelineLauncher,
        rollout_outcome: Callable[[str], str | None],
        runs: Runs,
        recipe: Recipe,
        policy: MonitorPolicy,
        now: Callable[[], datetime],
    ) -> None:
        if not any(isinstance(corpus, CorrectionsCorpus) for corpus in recipe.corpora):
            raise ConfigurationError(
                f"The retrain recipe {recipe.name!r} has no corpus of kind 'corrections'; "
                "add one, its range is set by the monitor."
            )
        self._corrections = corrections
        self._decisions = decisions
        self._launcher = launcher
        self._rollout_outcome = rollout_outcome
        self._runs = runs
        self._recipe = recipe
        self._policy = policy
        self._now = now
        self._screened: tuple[int, str] | None = None
        """Last sequence number that was learnt from, and the fingerprint of those after it, when
        they were ruled on last."""
        self._champion: str | None = None
        self._promoted: set[str] = set()
        """Ids of runs that were promoted after they had ended: somebody resumed their rollout."""

    def follow(self, champion: str | None) -> list[Run]:
        """Record how runs ended and launch what a dead monitor only claimed. Returns all runs."""
        runs = self._runs.all()
        for run in runs:
            if run.ended is None:
                self._follow_one(run, champion)
        runs = self._runs.all() if any(run.ended is None for run in runs) else runs
        if champion != self._champion:
            left = [run.run_id for run in runs if run.ended in ("succeeded", "failed")]
            self._promoted |= {one for one in left if self._rollout_outcome(one) == "promoted"}
            self._champion = champion
        return [
            replace(run, ended="promoted") if run.run_id in self._promoted else run for run in runs
        ]

    def consider(self, state: State, runs: Sequence[Run], reference_wer: float | None) -> Evidence:
        """Decide, record the decision when its reason is new, and carry it out."""
        gathered = self._gather(state, runs, reference_wer)
        decision = trigger(gathered.evidence, self._policy)
        if decision.fire:
            self._start(gathered, decision)
        if decision.reason != state.reason:
            self._record(gathered.evidence, decision)
            state.reason = decision.reason
        return gathered.evidence

    def _gather(self, state: State, runs: Sequence[Run], reference_wer: float | None) -> Gathered:
        learnt = max((run.up_to for run in runs if run.ended == "promoted"), default=0)
        tried = max((run.up_to for run in runs if run.ended != "failed"), default=0)
        up_to = self._corrections.last()
        self._screen(learnt, up_to)
        given = self._corrections.list(after=learnt, up_to=up_to)
        new = [one for one in given if one.sequence > tried]
        now = self._now()
        since = [run.hours_since(now) for run in runs]
        evidence = Evidence(
            champion=state.champion,
            shift=state.alarm is not None,
            harm=_harm(given, state, self._policy.harm_error),
            reference_wer=reference_wer,
            corrected_minutes=_minutes(new, "accepted"),
            quarantined_minutes=_minutes(new, "quarantined"),
            hours_since_learning=min([_hours(state.champion_since, now), *since]),
            hours_since_run=min(since, default=None),
            runs_in_budget=sum(hours < self._policy.budget_hours for hours in since),
            in_flight=next((run.run_id for run in runs if run.ended is None), None),
        )
        return Gathered(
            evidence=evidence,
            epoch=len(runs),
            after=learnt,
            up_to=up_to,
            accepted=sum(one.status == "accepted" for one in given),
        )

    def _screen(self, learnt: int, up_to: int) -> None:
        """Rule on what was given since, unless nothing has changed; others rule on it too."""
        now = (learnt, self._corrections.fingerprint(after=learnt, up_to=up_to))
        if now != self._screened:
            self._corrections.screen(after=learnt, up_to=up_to)
            self._screened = now

    def _start(self, gathered: Gathered, decision: Decision) -> None:
        base = str(gathered.evidence.champion)
        recipe = self._recipe_of(gathered.after, gathered.up_to)
        corrections = self._corrections.digest(after=gathered.after, up_to=gathered.up_to)
        run = Run(
            epoch=gathered.epoch,
            run_id=run_id(corrections=corrections, base=base, recipe=recipe, epoch=gathered.epoch),
            base=base,
            reason=decision.reason,
            after=gathered.after,
            up_to=gathered.up_to,
            corrections=gathered.accepted,
            recipe=recipe,
            claimed_at=self._now().isoformat(),
        )
        if not self._runs.claim(run):
            log.info("Another monitor has claimed epoch %d", run.epoch)
            return
        self._launch(run, f"{decision.reason}: {decision.detail}", asdict(gathered.evidence))

    def _launch(self, run: Run, reason: str, evidence: Mapping[str, Any]) -> None:
        self._decisions.append(
            kind="retrain",
            subject=run.run_id,
            decision="start",
            reason=reason,
            evidence={**evidence, "run": _without_recipe(run)},
            identity=f"start-{run.run_id}",
        )
        self._launcher.launch(run.run_id, run.recipe)

    def _recipe_of(self, after: int, up_to: int) -> str:
        corpora = tuple(
            replace(corpus, after=after, up_to=up_to)
            if isinstance(corpus, CorrectionsCorpus)
            else corpus
            for corpus in self._recipe.corpora
        )
        return replace(self._recipe, corpora=corpora).to_json()

    def _record(self, evidence: Evidence, decision: Decision) -> None:
        if decision.fire:  # recorded by whoever won the claim, before the launch
            return
        self._decisions.append(
            kind="retrain",
            subject=evidence.champion or "none",
            decision="hold",
            reason=f"{decision.reason}: {decision.detail}",
            evidence=asdict(evidence),
        )

    def _follow_one(self, run: Run, champion: str | None) -> None:
        status = self._launcher.status(run.run_id)
        if status == "unknown" and run.hours_since(self._now()) >= LAUNCH_GRACE_HOURS:
            self._launch(run, f"{run.reason}: claimed at {run.claimed_at}, never launched", {})
        if status not in ("succeeded", "failed"):
            return
        rollout = self._rollout_outcome(run.run_id)
        outcome = "promoted" if rollout == "promoted" else status
        self._decisions.append(
            kind="retrain",
            subject=run.run_id,
            decision="ended",
            reason=outcome,
            evidence={"run": _without_recipe(run), "champion": champion, "rollout": rollout},
            identity=f"ended-{run.run_id}",
        )
        self._runs.end(run, outcome)


def _without_recipe(run: Run) -> dict[str, Any]:
    return {name: value for name, value in asdict(run).items() if name != "recipe"}


def _harm(given: Iterable[Correction], state: State, error: float) -> Harm:
    """Bounds on the champion's word error rate on corrected calls.

    Two sequences, each with half the error: over all calls since the promotion, and over those
    corrected since the shift alarm, which old good calls cannot dilute. The lower bound is the
    higher of the two, with its calls; the upper bound, which may clear the alarm, is always that
    of the calls since. Both are computed anew from what the corrections are ruled to be now, so
    the error is that of one look and of calls that keep their values, not of all that may change.
    """
    own = [one for one in given if one.model_version == state.champion]
    recent = [one for one in own if one.sequence > state.corrections_at_alarm]
    latest = _bounds(_call_wers(recent), error / 2)
    overall = _bounds(_call_wers(own), error / 2)
    shown = max(latest, overall, key=lambda harm: harm.lower)
    return replace(shown, upper=max(latest.upper, shown.lower))


@lru_cache(maxsize=4)
def _bounds(wers: tuple[float, ...], alpha: float) -> Harm:
    return bounds(wers, alpha=alpha)


def _call_wers(given: Iterable[Correction]) -> tuple[float, ...]:
    """Word error rate by call; of several texts for one request an accepted one counts."""
    texts: dict[str, Correction] = {}
    for one in given:
        if one.status == "accepted" or (one.status == "confirmed" and one.request_id not in texts):
            texts[one.request_id] = one
    counted = ((one.call, count_words(one.text, one.hypothesis)) for one in texts.values())
    return tuple(call_wers((call, words.errors, words.length) for call, words in counted))


def _minutes(given: Iterable[Correction], status: str) -> float:
    return sum(one.audio_seconds for one in given if one.status == status) / 60


def _hours(since: str, now: datetime) -> float:
    return max(0.0, (now - datetime.fromisoformat(since)).total_seconds() / 3600) if since else 0.0
