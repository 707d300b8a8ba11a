"""The closing report of the demo: what happened, in order, with every figure from the run.

`render` takes the run's summary (what `summary.json` holds) and `Details`, which the demo fills
while it runs:

>>> Details(
...     wer=(
...         Comparison(name="base voices", before=rate_of_base, after=rate_of_challenger),
...         Comparison(name="changed calls", before=…, after=…),
...     ),
...     traffic=tuple(Request(at_s=12.5, version="1") for …),
...     …
... )  # doctest: +SKIP

Recordings are embedded; the reports of the runs are linked by paths relative to the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from demo.charts import Detector, Mark, Request, detector_chart, traffic_chart
from hearloop.gate import Verdict
from hearloop.report import audio_uri, page_environment, percent
from hearloop.scores import Rate

__all__ = [
    "Claim",
    "Comparison",
    "Decision",
    "Details",
    "Link",
    "Sample",
    "Stage",
    "claims",
    "render",
]

BASE_WER_AT_MOST = 0.05
CHANGED_WER_TIMES = 3.0
WATCHED_AT_LEAST = 200
RELATIVE_FALL_AT_LEAST = 0.60
RISE_AT_MOST = 0.01
SECONDS_AT_MOST = 15 * 60


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """WER of two models on the same calls, with intervals by speakers."""

    name: str
    before: Rate
    after: Rate


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the demo."""

    name: str
    began_s: float
    """Since the demo began, in seconds."""
    seconds: float
    training_s: float = 0.0
    """Of these, seconds in which a pipeline run trained a model."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One decision on record, those to do nothing too."""

    at_s: float
    """Since the demo began, in seconds."""
    by: str
    """Who decided: "monitor", "gate", "rollout", "screening", …"""
    decision: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An utterance that a caller said, and what two versions made of it."""

    accent: str
    reference: str
    before: str
    after: str
    audio: bytes
    """FLAC."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """Something else to read."""

    title: str
    href: str
    """Relative to the page, such as `../runs/base/evaluation.html`."""
    about: str


@dataclass(frozen=True, kw_only=True)
class Details:
    """What the report shows besides the summary."""

    wer: tuple[Comparison, ...]
    """Base model before, challenger after: on the base voices and on the changed calls."""
    detector: Detector
    traffic: tuple[Request, ...]
    """Every request that callers made."""
    marks: tuple[Mark, ...]
    """What to point at in the chart of the traffic, in order of time."""
    decisions: tuple[Decision, ...]
    stages: tuple[Stage, ...]
    verdict: Verdict
    """The gate's, on the challenger that learnt from clean corrections."""
    poisoned: tuple[Comparison, ...]
    """Champion before; after: a model trained on the poisoned corrections."""
    samples: tuple[Sample, ...]
    links: tuple[Link, ...]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Something the demo has to show, and whether it did."""

    text: str
    measured: str
    met: bool


def claims(summary: Mapping[str, Any]) -> tuple[Claim, ...]:
    """What the demo has to show, judged on the summary alone."""
    return (*_hearing(summary), *_watching(summary), *_serving(summary))


def render(summary: Mapping[str, Any], details: Details) -> str:
    """The report as one HTML page. Raises KeyError for a figure that the summary lacks."""
    seconds = summary["seconds"]
    template = page_environment(jinja2.PackageLoader("demo")).get_template("demo.html")
    rates = [rate for one in details.wer for rate in (one.before, one.after)]
    poisoned = [rate for one in details.poisoned for rate in (one.before, one.after)]
    return template.render(
        summary=summary,
        details=details,
        claims=claims(summary),
        top=max(rate.high for rate in rates),
        poisoned_top=max([0.01, *(rate.high for rate in poisoned)]),
        detector=detector_chart(details.detector),
        traffic=traffic_chart(details.traffic, details.marks),
        versions=_versions(details.traffic),
        samples=[(sample, audio_uri(sample.audio)) for sample in details.samples],
        outside=1 - seconds["training"] / seconds["total"],
        clock=_clock,
    )


def _hearing(summary: Mapping[str, Any]) -> tuple[Claim, ...]:
    old, changed = summary["wer"]["base_voices"], summary["wer"]["changed_calls"]
    times = changed["base"] / max(old["base"], 1e-9)
    rise = old["challenger"] - old["base"]
    fall = _fall(summary)
    return (
        Claim(
            text=f"The base model makes at most {100 * BASE_WER_AT_MOST:g} % errors on the "
            "accents that it knows.",
            measured=percent(old["base"]),
            met=old["base"] <= BASE_WER_AT_MOST,
        ),
        Claim(
            text=f"When callers change, its WER rises at least {CHANGED_WER_TIMES:g}-fold.",
            measured=f"{times:.1f}-fold, to {percent(changed['base'])}",
            met=times >= CHANGED_WER_TIMES,
        ),
        Claim(
            text=f"On other changed calls the challenger's WER is lower by at least "
            f"{100 * RELATIVE_FALL_AT_LEAST:g} %.",
            measured=f"{100 * fall:.0f} %, to {percent(changed['challenger'])}",
            met=fall >= RELATIVE_FALL_AT_LEAST,
        ),
        Claim(
            text=f"On the old calls it is higher by at most {100 * RISE_AT_MOST:g} point.",
            measured=f"{100 * rise:+.2f} points, to {percent(old['challenger'])}",
            met=rise <= RISE_AT_MOST,
        ),
    )


def _watching(summary: Mapping[str, Any]) -> tuple[Claim, ...]:
    alarm, retrain = summary["alarm"], summary["retrain"]
    before, until = alarm["calls_before_change"], alarm["calls_until_alarm"]
    return (
        Claim(
            text=f"The monitor watches {WATCHED_AT_LEAST} or more unchanged calls without an "
            "alarm.",
            measured=f"{alarm['alarms_before_change']} alarms in {before} calls",
            met=alarm["alarms_before_change"] == 0 and before >= WATCHED_AT_LEAST,
        ),
        Claim(
            text="It raises its alarm after the change, from the log alone.",
            measured=_alarmed(until),
            met=until is not None and until > 0,
        ),
        Claim(
            text="It starts the retrain itself, when corrections show harm.",
            measured=f"started by the {retrain['started_by']} for {retrain['trigger']}, "
            f"on {retrain['corrections']} corrections",
            met=retrain["started_by"] == "monitor" and retrain["trigger"] == "harm",
        ),
    )


def _serving(summary: Mapping[str, Any]) -> tuple[Claim, ...]:
    serving, poison, total = summary["serving"], summary["poison"], summary["seconds"]["total"]
    return (
        Claim(
            text="Requests flow all the while and none fails; the endpoint ends on the new "
            "version.",
            measured=f"{serving['failed']} of {serving['requests']} failed; version "
            f"{serving['version_before']}, then {serving['version_after']}",
            met=serving["failed"] == 0
            and serving["requests"] > 0
            and serving["version_before"] != serving["version_after"],
        ),
        Claim(
            text="Poisoned corrections are stopped and the champion stays.",
            measured=_stopped(poison),
            met=poison["champion_unchanged"]
            and bool(poison["stopped_by"])
            and 0 < poison["corrections"] == poison["stopped"],
        ),
        Claim(
            text="As many clean corrections would have started a retrain.",
            measured=poison["trigger_if_believed"],
            met=poison["trigger_if_believed"].startswith("start"),
        ),
        Claim(
            text=f"The whole run takes at most {_clock(SECONDS_AT_MOST)}.",
            measured=_clock(total),
            met=total <= SECONDS_AT_MOST,
        ),
    )


def _alarmed(until: int | None) -> str:
    if until is None:
        return "no alarm"
    return f"after {until} changed calls" if until > 0 else f"{-until} calls before the change"


def _stopped(poison: Mapping[str, Any]) -> str:
    champion = "stayed" if poison["champion_unchanged"] else "was replaced"
    return (
        f"{poison['stopped']} of {poison['corrections']} stopped by "
        f"{poison['stopped_by'] or 'nothing'}; the champion {champion}"
    )


def _fall(summary: Mapping[str, Any]) -> float:
    """Relative fall of the WER on the changed calls."""
    changed = summary["wer"]["changed_calls"]
    return float(1 - changed["challenger"] / max(changed["base"], 1e-9))


def _versions(traffic: Sequence[Request]) -> list[tuple[str, int]]:
    """Answers by version, in order of appearance."""
    names = dict.fromkeys(one.version for one in traffic if one.version)
    return [(name, sum(one.version == name for one in traffic)) for name in names]


def _clock(seconds: float) -> str:
    """Seconds as minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    parts = [f"{minutes} min"] * bool(minutes) + [f"{rest} s"] * bool(rest or not minutes)
    return " ".join(parts)
