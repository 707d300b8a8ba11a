"""An evaluation as one HTML page that needs nothing else: no network, no script, audio inside.

The recordings of the worst utterances are embedded, so the page can be mailed and listened to.
"""

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import jinja2

from hearloop.gate import Check, Verdict
from hearloop.recipe import GatePolicy
from hearloop.scores import CHALLENGER, CHAMPION, Evaluation, JudgedSet, Rate, rate, sliced
from hearloop.scoring import ErrorCounts, ScoredUtterance, align, total

__all__ = ["audio_uri", "page_environment", "percent", "render", "short"]

WORST = 12
"""Utterances in each list of the worst: about 0.8 MB of audio, and as many as anyone plays."""

FLAC = "audio/flac"

SLICE_NAMES = {"snr": "signal-to-noise ratio"}
"""Slices whose name is no word."""


@dataclass(frozen=True, kw_only=True)
class ModelFigures:
    """One model on one judged set."""

    role: str
    wer: Rate
    cer: Rate
    counts: ErrorCounts
    confidence: float


@dataclass(frozen=True, kw_only=True)
class SetFigures:
    """Both models on one judged set."""

    name: str
    snapshots: tuple[str, ...]
    utterances: int
    speakers: int
    models: tuple[ModelFigures, ...]


@dataclass(frozen=True, kw_only=True)
class SliceRow:
    """One class of a slice."""

    value: str
    utterances: int
    speakers: int
    rates: dict[str, Rate]
    """WER by model."""
    cers: dict[str, Rate]
    counts: dict[str, ErrorCounts]


@dataclass(frozen=True, kw_only=True)
class SliceTable:
    """One slice of one judged set."""

    set: str
    name: str
    rows: tuple[SliceRow, ...]


@dataclass(frozen=True, kw_only=True)
class Playable:
    """An utterance with its recording as a data URI."""

    utterance: ScoredUtterance
    audio: str


@dataclass(frozen=True, kw_only=True)
class WorstList:
    """Utterances that deserve an ear."""

    title: str
    about: str
    utterances: tuple[Playable, ...]


def render(
    evaluation: Evaluation,
    verdict: Verdict,
    *,
    policy: GatePolicy,
    audio: Callable[[ScoredUtterance], bytes],
    title: str = "Is the challenger better?",
) -> str:
    """The report as HTML.

    Args:
        evaluation: what the models said.
        verdict: what the gate made of it.
        policy: the gate's; its confidence, resamples and seed make the intervals.
        audio: reads the FLAC file of an utterance; called for those that are embedded.
        title: heading of the page.
    """
    roles = [role for role in (CHAMPION, CHALLENGER) if role in evaluation.models]
    sets = [_set_figures(name, judged, roles, policy) for name, judged in evaluation.sets.items()]
    return (
        page_environment()
        .get_template("evaluation.html")
        .render(
            title=title,
            evaluation=evaluation,
            verdict=verdict,
            policy=policy,
            roles=roles,
            slice_names=SLICE_NAMES,
            sets=sets,
            top=max([0.01, *(model.wer.high for one in sets for model in one.models)]),
            checks=[check for check in verdict.checks if check.part is None],
            slice_checks=[check for check in verdict.checks if check.part is not None],
            slices=[
                table
                for name, judged in evaluation.sets.items()
                for table in _slice_tables(name, judged, roles, policy)
            ],
            clips=[clip for clip in evaluation.clips if any(clip.heard.values())],
            worst=[
                part
                for name, judged in evaluation.sets.items()
                for part in _worst(name, judged, roles, audio)
            ],
        )
    )


def page_environment(folder: jinja2.BaseLoader | None = None) -> jinja2.Environment:
    """Templates of this package, and of `folder` before them; everything they print is escaped."""
    ours = jinja2.PackageLoader("hearloop")
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([folder, ours]) if folder else ours,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        align=align, figure=_figure, percent=percent, points=_points, short=short
    )
    return environment


def audio_uri(body: bytes) -> str:
    """A FLAC file as a data URI."""
    return f"data:{FLAC};base64,{base64.b64encode(body).decode()}"


def percent(fraction: float) -> str:
    """A rate for people: two digits where it is small."""
    digits = 2 if fraction < 0.1 else 1
    return f"{100 * fraction:.{digits}f}\N{NO-BREAK SPACE}%"


def short(name: str) -> str:
    """A version or digest, cut to what tells it from others."""
    return name if len(name) <= 12 else name[:12]


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}".replace("-", "\N{MINUS SIGN}")


def _figure(check: Check, value: float | None) -> str:
    if value is None:
        return ""
    return percent(value) if check.unit in ("WER", "deletions") else f"{value:.3g}"


def _set_figures(
    name: str, judged: JudgedSet, roles: Sequence[str], policy: GatePolicy
) -> SetFigures:
    figures = tuple(
        ModelFigures(
            role=role,
            wer=_rate(judged.utterances, role, policy),
            cer=_rate(judged.utterances, role, policy, "characters"),
            counts=total(one.answers[role].words for one in judged.utterances),
            confidence=fmean(one.answers[role].confidence for one in judged.utterances),
        )
        for role in roles
    )
    return SetFigures(
        name=name,
        snapshots=judged.snapshots,
        utterances=len(judged.utterances),
        speakers=figures[0].wer.blocks,
        models=figures,
    )


def _slice_tables(
    name: str, judged: JudgedSet, roles: Sequence[str], policy: GatePolicy
) -> list[SliceTable]:
    tables: dict[str, list[SliceRow]] = {}
    for (slice_name, value), utterances in sliced(judged.utterances).items():
        rates = {role: _rate(utterances, role, policy) for role in roles}
        row = SliceRow(
            value=value,
            utterances=len(utterances),
            speakers=rates[CHALLENGER].blocks,
            rates=rates,
            cers={role: _rate(utterances, role, policy, "characters") for role in roles},
            counts={role: total(one.answers[role].words for one in utterances) for role in roles},
        )
        tables.setdefault(slice_name, []).append(row)
    return [
        SliceTable(set=name, name=slice_name, rows=tuple(rows))
        for slice_name, rows in tables.items()
    ]


def _rate(
    utterances: Sequence[ScoredUtterance],
    role: str,
    policy: GatePolicy,
    unit: Literal["words", "characters"] = "words",
) -> Rate:
    return rate(
        utterances,
        role,
        confidence=policy.confidence,
        resamples=policy.resamples,
        seed=policy.seed,
        unit=unit,
    )


def _worst(
    name: str,
    judged: JudgedSet,
    roles: Sequence[str],
    audio: Callable[[ScoredUtterance], bytes],
) -> Iterable[WorstList]:
    def errors(one: ScoredUtterance, role: str) -> int:
        return one.answers[role].words.errors

    lost = [one for one in judged.utterances if errors(one, CHALLENGER)]
    lost.sort(key=lambda one: (-errors(one, CHALLENGER), one.id))
    if lost:
        yield WorstList(
            title=f"Worst of the {name} set",
            about=f"{len(lost)} of {len(judged.utterances)} utterances have an error of the "
            "challenger; these have the most.",
            utterances=_playable(lost, audio),
        )
    if CHAMPION not in roles:
        return
    worse = [one for one in lost if errors(one, CHALLENGER) > errors(one, CHAMPION)]
    worse.sort(key=lambda one: (errors(one, CHAMPION) - errors(one, CHALLENGER), one.id))
    if worse:
        yield WorstList(
            title=f"Got worse on the {name} set",
            about=f"{len(worse)} of {len(judged.utterances)} utterances have more errors of the "
            "challenger than of the champion; these lost the most.",
            utterances=_playable(worse, audio),
        )


def _playable(
    utterances: Sequence[ScoredUtterance], audio: Callable[[ScoredUtterance], bytes]
) -> tuple[Playable, ...]:
    return tuple(Playable(utterance=one, audio=audio_uri(audio(one))) for one in utterances[:WORST])
