"""The signals of an utterance, and their gathering into calls: the unit of every test.

A call is over, and its mean counts, once one of these holds; none of them reads a clock of ours,
except when traffic stops altogether:

- it has `LARGEST_CALL` utterances: a long stream need not end to be heard;
- `close_after_calls` other calls have begun in its partition of the event log since its last
  utterance: counts do not suffer from clocks that disagree;
- nothing came for `idle_seconds` by the times in the events of its partition, to which the
  silence of a partition is added, so that the last calls of a day are closed as well.

What arrives for a call that is over is late: it is counted and otherwise left out. That costs some
power and no validity, because a call is compared with reference calls of as many utterances.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hearloop import quality
from hearloop.drift.detectors import LARGEST_CALL
from hearloop.quality import Quality

__all__ = ["SIGNALS", "CallBook", "ClosedCall", "OpenCall", "recogniser_signals", "utterance"]

_RECOGNISER = ("speaking_rate", "confidence", "empty")

SIGNALS: tuple[str, ...] = (
    *(signal.name for signal in quality.SIGNALS if signal.name not in _RECOGNISER),
    *_RECOGNISER,
)
"""What is watched: the quality of the audio, how fast the answer says it was spoken, how sure the
recogniser was of it, and whether it heard nothing."""

REMEMBERED_CALLS = 1000
"""Calls that are over and whose late utterances are still recognised: far more than lie between
two commits of the consumer, after which nothing is delivered again."""


def utterance(measured: Quality, *, text: str, confidence: float) -> dict[str, float]:
    """All signals of one utterance; the one way for live speech and for the reference.

    `text` is what the champion answered, not the reference transcript. What cannot be measured is
    left out.
    """
    audio = {name: float(getattr(measured, name)) for name in SIGNALS if name not in _RECOGNISER}
    heard = recogniser_signals(text=text, confidence=confidence, seconds=measured.duration_s)
    return {name: value for name, value in (audio | heard).items() if np.isfinite(value)}


def recogniser_signals(*, text: str, confidence: float, seconds: float) -> dict[str, float]:
    """The signals that need no audio, only the answer."""
    signals = {"confidence": confidence, "empty": float(not text.strip())}
    if text.strip() and seconds > 0:
        signals["speaking_rate"] = quality.speaking_rate(text, seconds)
    return signals


@dataclass(kw_only=True)
class OpenCall:
    """A call that may go on."""

    call: str
    partition: int
    events: list[str]
    """Ids of the events of its utterances."""
    values: list[list[float | None]]
    """(utterance, signal); None where not measured."""
    last_at: float
    """Latest event time of its partition at its last utterance, in seconds since the epoch: a
    server whose clock is behind does not make its own calls look old."""
    begun: int
    """Calls that had begun in its partition at its last utterance."""


@dataclass(frozen=True, kw_only=True)
class ClosedCall:
    """A call that counts."""

    call: str
    values: Sequence[Sequence[float | None]]
    """(utterance, signal); None where not measured."""

    @property
    def size(self) -> int:
        """Number of utterances."""
        return len(self.values)

    def means(self, size: int) -> NDArray[np.float64]:
        """Mean (signal,) over the first `size` utterances, NaN where none was measured."""
        return call_means(self.values[:size])


@dataclass(kw_only=True)
class CallBook:
    """Calls by partition of the event log. All of it is state, so a restart equals a replay."""

    close_after_calls: int
    idle_seconds: float
    open: dict[str, OpenCall] = field(default_factory=dict)
    over: list[str] = field(default_factory=list)
    """The latest `REMEMBERED_CALLS` that are over, oldest first."""
    begun: dict[int, int] = field(default_factory=dict)
    """Calls that ever began, by partition."""
    latest: dict[int, float] = field(default_factory=dict)
    """The latest event time, by partition: seconds since the epoch."""
    duplicates: int = 0
    late: int = 0

    def add(
        self, *, call: str, partition: int, event: str, at: float, signals: Mapping[str, float]
    ) -> list[ClosedCall]:
        """Take in one utterance; returns the calls that are over by now, in order."""
        if call in self.over:
            self.late += 1
            return []
        known = self.open.get(call)
        if known is not None and event in known.events:
            self.duplicates += 1
            return []
        if known is None:
            self.begun[partition] = self.begun.get(partition, 0) + 1
            known = self.open[call] = OpenCall(
                call=call, partition=partition, events=[], values=[], last_at=at, begun=0
            )
        known.events.append(event)
        known.values.append([signals.get(name) for name in SIGNALS])
        self.latest[partition] = max(self.latest.get(partition, at), at)
        known.last_at = self.latest[partition]
        known.begun = self.begun[partition]
        return self._close(partition, silence=0.0)

    def advance(self, silence: Mapping[int, float]) -> list[ClosedCall]:
        """Close what is over after so many seconds without any event, by partition."""
        return [one for where, passed in silence.items() for one in self._close(where, passed)]

    def _close(self, partition: int, silence: float) -> list[ClosedCall]:
        now = self.latest.get(partition, -np.inf) + silence
        closing = [
            one
            for one in self.open.values()
            if one.partition == partition
            and (
                len(one.events) >= LARGEST_CALL
                or self.begun[partition] - one.begun >= self.close_after_calls
                or now - one.last_at >= self.idle_seconds
            )
        ]
        for one in closing:
            del self.open[one.call]
            self.over.append(one.call)
        del self.over[:-REMEMBERED_CALLS]
        return [_closed(one) for one in closing]


def _closed(call: OpenCall) -> ClosedCall:
    return ClosedCall(call=call.call, values=call.values)


def call_means(values: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    """Mean (signal,) over utterances (utterance, signal), leaving out what was not measured."""
    table = np.array(values, dtype=np.float64)
    counts = (~np.isnan(table)).sum(axis=0)
    return np.where(counts > 0, np.nansum(table, axis=0) / np.maximum(counts, 1), np.nan)
