"""Is the champion doing harm? A confidence sequence for its word error rate on corrected calls.

The betting confidence sequence of Waudby-Smith and Ramdas (arXiv 2110.06177): for each candidate
mean m, a gambler who bets that calls are worse than m multiplies his wealth by 1 + f (x / m - 1)
after a call with word error rate x. Were the mean m or less, his wealth would reach 1 / alpha with
probability alpha at most, at any time (Ville). The lower bound is the largest m that made him
rich; betting on 1 - x gives the upper bound. Both may be looked at after every call.

That holds for a sequence that only grows at its end. The monitor's does so nearly: a call whose
next utterance is corrected later, or a correction that is ruled on anew, changes the value of a
call that was bet on before. What that adds to the chance of an error is not bounded here; the
policy's margin is there for it too.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Harm", "bounds", "call_wers"]

MEANS = np.arange(1, 200) / 200
"""Candidate means: a resolution of half a point of word error rate."""

FRACTIONS = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.95])
"""Shares of the wealth that are bet side by side."""


@dataclass(frozen=True, kw_only=True)
class Harm:
    """Word error rate on corrected calls: mean, and bounds (`bounds` says when they hold)."""

    calls: int
    mean: float | None
    lower: float
    upper: float


def call_wers(counts: Iterable[tuple[str, int, int]]) -> list[float]:
    """Word error rate of each call, bounded to 1, in the order in which the calls first occur.

    `counts`: (call, wrong words, words of the reference) of each corrected or confirmed
    utterance. Calls without a word count as 1 when anything was heard, else as 0.
    """
    errors: defaultdict[str, int] = defaultdict(int)
    words: defaultdict[str, int] = defaultdict(int)
    for call, wrong, length in counts:
        errors[call] += wrong
        words[call] += length
    return [min(1.0, errors[call] / max(1, words[call])) for call in words]


def bounds(wers: Sequence[float], *, alpha: float) -> Harm:
    """Bounds on the mean of per-call word error rates (0 to 1) in order of arrival.

    Each side holds with probability 1 - `alpha` for all beginnings of one sequence at once, and
    thus whenever it is looked at while calls are only appended.
    """
    calls = np.asarray(wers, dtype=np.float64)
    return Harm(
        calls=len(calls),
        mean=float(calls.mean()) if len(calls) else None,
        lower=_lower(calls, alpha),
        upper=1.0 - _lower(1.0 - calls, alpha),
    )


def _lower(calls: NDArray[np.float64], alpha: float) -> float:
    """Largest candidate mean that was ever refuted from below; 0 when none was."""
    wealth = np.zeros((len(MEANS), len(FRACTIONS)))
    richest = np.full(len(MEANS), -np.inf)
    for x in calls:
        wealth += np.log1p(FRACTIONS * (x / MEANS[:, None] - 1.0))
        richest = np.maximum(richest, np.logaddexp.reduce(wealth, axis=1))
    refuted = MEANS[richest >= np.log(len(FRACTIONS) / alpha)]
    return float(refuted.max(initial=0.0))
