"""Somebody sends wrong transcripts. What stops them, and what would have happened otherwise?"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from demo import reviewers
from demo.callers import Answer
from demo.scenario import Scenario
from demo.watching import Monitor, wait_for
from hearloop import composition
from hearloop.config import Settings
from hearloop.corrections import Correction
from hearloop.drift.harm import bounds, call_wers
from hearloop.drift.policy import Evidence, trigger
from hearloop.recipe import CorrectionsCorpus
from hearloop.scoring import count_words
from hearloop.storage.corrections import SqlCorrectionStore
from hearloop.telemetry import progress

__all__ = ["Poison", "poison"]

SECONDS_TO_RULE = 60.0

LEARNT = ("waiting", "accepted")
"""A retrain learns from the accepted corrections, and may yet from those that wait."""


@dataclass(frozen=True, kw_only=True)
class Poison:
    """What became of the poisoned corrections."""

    corpus: CorrectionsCorpus
    """All of them, whatever the screen said."""
    corrections: int
    stopped: int
    """Those that no model may learn from."""
    stopped_by: str
    """The reason that most of these were given; empty when nothing stopped them."""
    trigger_if_believed: str
    """The trigger's decision on the same evidence, had nobody doubted them."""


def poison(
    calls: Sequence[Sequence[Answer]],
    scenario: Scenario,
    monitor: Monitor,
    settings: Settings,
) -> Poison:
    """Send poisoned corrections beside a few honest ones, and see what the monitor does."""
    honest, wronged = calls[: scenario.honest_calls], calls[scenario.honest_calls :]
    _send("honest corrections", reviewers.honest(honest, scenario.contributors), settings)
    store = composition.correction_store(settings)
    after = store.last()
    sent = _send("poisoned corrections", reviewers.poisoned(wronged, scenario.poisoner), settings)
    up_to = store.last()
    seen = wait_for(
        "the monitor to rule on them",
        lambda: _ruled(monitor, store, after, up_to),
        SECONDS_TO_RULE,
    )
    given = store.list(after=after, up_to=up_to)
    reasons = Counter(one.reason for one in given if one.status not in LEARNT)
    return Poison(
        corpus=CorrectionsCorpus(after=after, up_to=up_to, screened=False),
        corrections=sent,
        stopped=reasons.total(),
        stopped_by=reasons.most_common(1)[0][0] if reasons else "",
        trigger_if_believed=_if_believed(given, seen["evidence"], scenario),
    )


def _send(what: str, corrections: Iterable[dict[str, str]], settings: Settings) -> int:
    """Post the corrections; returns how many."""
    listed = list(corrections)
    with progress(what, len(listed)) as bar:
        reviewers.send(settings.serving_url, listed, bar, headers=settings.serving_headers)
    return len(listed)


def _ruled(
    monitor: Monitor, store: SqlCorrectionStore, after: int, up_to: int
) -> dict[str, Any] | None:
    """The monitor's status once it has ruled on the corrections of the range, or acted on them."""
    seen = monitor.status()
    if len(seen["runs"]) > 1:
        return seen
    waiting = store.list(after=after, up_to=up_to, statuses=["waiting"])
    counted = seen["evidence"]["quarantined_minutes"] + seen["evidence"]["corrected_minutes"]
    given = store.list(after=after, up_to=up_to, statuses=["quarantined", "accepted"])
    return seen if not waiting and counted >= _minutes(given) else None


def _if_believed(given: Sequence[Correction], evidence: dict[str, Any], scenario: Scenario) -> str:
    """What the trigger says of the monitor's evidence with the poison taken at its word."""
    heard = [(one.call, count_words(one.text, one.hypothesis)) for one in given]
    wers = call_wers((call, counts.errors, counts.length) for call, counts in heard)
    believed = replace(
        TypeAdapter(Evidence).validate_python(evidence),
        harm=bounds(wers, alpha=scenario.policy.harm_error),
        corrected_minutes=_minutes(given),
    )
    decision = trigger(believed, scenario.policy)
    return f"{'start' if decision.fire else 'hold'}: {decision.reason}. {decision.detail}"


def _minutes(corrections: Iterable[Correction]) -> float:
    return sum(one.audio_seconds for one in corrections) / 60
