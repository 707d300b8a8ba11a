"""What the monitor tells about itself, as JSON values."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from hearloop.drift import detectors
from hearloop.drift.champion import Champion
from hearloop.drift.policy import Evidence, MonitorPolicy
from hearloop.drift.runs import Run
from hearloop.drift.signals import SIGNALS
from hearloop.drift.state import State

__all__ = ["describe"]


def describe(
    state: State,
    champion: Champion | None,
    policy: MonitorPolicy,
    *,
    evidence: Evidence | None,
    decided_at: datetime | None,
    runs: Sequence[Run],
) -> dict[str, Any]:
    """All of it at one moment; nothing in it changes later."""
    parts = detectors.by_signal(state.detector).tolist() if state.statistic else []
    return {
        "champion": state.champion,
        "champion_registered_at": _iso(champion.registered_at if champion else None),
        "decided_at": _iso(decided_at),
        "retrain_due_at": _iso(_retrain_due_at(evidence, decided_at, policy)),
        "reference": _reference(champion),
        "calls": state.calls,
        "calls_since_reference": state.calls_since_reference,
        "open_calls": len(state.book.open),
        "counts": asdict(state.counts)
        | {"late": state.book.late, "duplicates": state.book.duplicates},
        "shift": state.alarm is not None,
        "statistic": sum(parts),
        "alarm_at": policy.arl_calls,
        "signals": dict(zip(SIGNALS, parts, strict=False)),
        "alarms": [asdict(alarm) for alarm in state.alarms],
        "review": {"share": state.share, "calls": list(state.review)},
        "evidence": None if evidence is None else asdict(evidence),
        "harm_margin": policy.harm_margin,
        "reason": state.reason,
        "run_in_flight": None if evidence is None else evidence.in_flight,
        "runs": [asdict(run) for run in runs],
    }


def _reference(champion: Champion | None) -> dict[str, Any] | None:
    if champion is None or champion.reference is None:
        return None
    return {
        "version": champion.version,
        "speakers": champion.reference.speakers,
        "conditions": [one.name for one in champion.reference.conditions],
        "wer": champion.reference.wer,
    }


def _retrain_due_at(
    evidence: Evidence | None, decided_at: datetime | None, policy: MonitorPolicy
) -> datetime | None:
    """When the schedule makes a retrain due; None before the first champion or decision."""
    if evidence is None or decided_at is None or evidence.champion is None:
        return None
    return decided_at + timedelta(hours=policy.every_hours - evidence.hours_since_learning)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
