"""Has the speech changed? A Shiryaev-Roberts e-detector on calls (Shin, Ramdas, Rinaldo 2022).

Each call is compared, signal by signal, with reference calls of the same number of utterances by
two scores between 0 and 1 on either side:

- *rank*: the share of the reference below (above) the call. While nothing has changed its mean is
  1/2, give or take what a finite reference leaves open: one minus the mean of n uniform numbers;
- *beyond*: whether the call lies outside all reference speakers but the most extreme one. While
  nothing has changed this has a Beta(2, n - 1) probability.

Both bounds hold whatever the distribution of the signal, so nothing is assumed about its shape,
and the number of reference speakers enters exactly: a small reference makes a slow detector, not a
nervous one. A score s with mean at most b gives the bet 1 + f (s / b - 1), whose mean is at most 1
for any fraction f in [0, 1]. Where several conditions are known, a call is given the smallest of
their bets: any mixture of known conditions is no change.

The detector's statistic M <- (M + 1) * bet grows by at most 1 a call on average while nothing has
changed; so does the mean over signals, sides, scores and fractions. An alarm at M >= a threshold
therefore has an average run length (ARL) of at least that many calls, however the signals depend
on each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, median_low

import numpy as np
from numpy.typing import NDArray

from hearloop.drift.reference import Condition, Reference

__all__ = ["LARGEST_CALL", "Comparison", "by_signal", "combined", "initial", "step"]

LARGEST_CALL = 8
"""Utterances of a call that are compared, at most: then it is over, however long it goes on."""

FRACTIONS = np.array([0.2, 0.5, 0.9])
"""Shares of the wealth that are bet side by side: small ones find small shifts."""

CEILING = 1e100
"""The statistic stops here: an alarm is long since raised, and JSON knows no infinity."""

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """One signal of one condition, for calls of one size."""

    values: Array
    """Sorted means of the reference calls."""
    shares: Array
    """shares[i]: weight of the first i of `values`; each speaker weighs the same."""
    low: float
    high: float
    """The second most extreme speaker on either side."""
    bounds: tuple[float, float]
    """Largest mean of the rank and beyond scores while nothing has changed."""

    def bets(self, x: Array) -> Array:
        """Bets (..., side, score, fraction) on call means `x` (...); 1 where x is NaN."""
        below = self.shares[np.searchsorted(self.values, x, side="left")]
        above = 1.0 - self.shares[np.searchsorted(self.values, x, side="right")]
        up = np.stack([below, (x > self.high).astype(float)], axis=-1)
        down = np.stack([above, (x < self.low).astype(float)], axis=-1)
        scores = np.stack([up, down], axis=-2) / np.array(self.bounds)
        bets = 1.0 + FRACTIONS * (scores[..., None] - 1.0)
        return np.where(np.isnan(x)[..., None, None, None], 1.0, bets)


_SILENT = _Scale(
    values=np.zeros(0), shares=np.zeros(1), low=-np.inf, high=np.inf, bounds=(1.0, 1.0)
)
"""Of a signal that the reference never measured: it loses its stake and raises nothing."""


class Comparison:
    """Turns a call into bets against the reference.

    `signals` names the columns of the calls; one that the reference does not know is never bet
    on. `error` is the chance, over the draw of the reference speakers, that any of the bounds
    (four a signal, condition and size of a call) is wrong.
    """

    size: int
    """Utterances of a call that are compared: so many that in each condition half of the reference
    speakers or more said as much, which the others are left out for. The mean of a skewed signal
    over many utterances has another distribution than over few."""

    def __init__(self, reference: Reference, *, signals: Sequence[str], error: float) -> None:
        self._conditions = reference.conditions
        self._columns = [
            reference.signals.index(name) if name in reference.signals else None for name in signals
        ]
        self.size = min(LARGEST_CALL, *map(_usual_size, reference.conditions))
        self._error = error / (4 * len(signals) * len(reference.conditions) * self.size)
        self._scales = lru_cache(maxsize=None)(self._make_scales)

    def bets(self, means: Array, size: int) -> Array:
        """Bets (..., signal, side, score, fraction) on calls.

        `means` (..., signal): mean of each signal over the utterances of a call, NaN where it
        could not be measured. `size`: number of those utterances, `self.size` at most.
        """
        if not 1 <= size <= self.size:
            raise ValueError(f"a call of {size} cannot be compared with calls of {self.size}")
        scales = self._scales(size)
        return np.stack(
            [
                np.min([scale.bets(means[..., column]) for scale in known], axis=0)
                if known
                else np.ones((*means.shape[:-1], 2, 2, len(FRACTIONS)))
                for column, known in enumerate(scales)
            ],
            axis=-4,
        )

    def _make_scales(self, size: int) -> list[list[_Scale]]:
        """For each signal the scales of the conditions, for calls of `size` utterances."""
        known = [_reference_calls(condition, size) for condition in self._conditions]
        return [
            []
            if column is None
            else [_scale([s[:, column] for s in speakers], self._error) for speakers in known]
            for column in self._columns
        ]


def _usual_size(condition: Condition) -> int:
    """How many utterances half of the speakers have, or more of them."""
    return median_low(len(speaker) for speaker in condition.speakers)


def _reference_calls(condition: Condition, size: int) -> list[Array]:
    """Means (call, signal) of the utterances of each speaker who said `size` or more, by calls of
    that size."""
    calls = []
    for speaker in condition.speakers:
        said = np.array(speaker)
        cuts = [said[i * size : (i + 1) * size] for i in range(len(said) // size)]
        if not cuts:
            continue
        calls.append(np.stack([_mean(cut) for cut in cuts]))
    return calls


def _mean(utterances: Array) -> Array:
    """Mean (signal,) over utterances (utterance, signal), leaving out NaN."""
    counts = (~np.isnan(utterances)).sum(axis=0)
    sums = np.nansum(utterances, axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _scale(calls: Sequence[Array], error: float) -> _Scale:
    """The scale of one signal from each speaker's reference calls, NaN where not measured."""
    measured = [call_means[~np.isnan(call_means)] for call_means in calls]
    speakers = [said for said in measured if len(said)]
    if len(speakers) < 2:
        return _SILENT
    values = np.concatenate(speakers)
    weights = np.concatenate([np.full(len(v), 1.0 / len(v)) for v in speakers]) / len(speakers)
    order = np.argsort(values, kind="stable")
    shares = np.concatenate([[0.0], np.cumsum(weights[order])])
    shares[-1] = 1.0
    return _Scale(
        values=values[order],
        shares=shares,
        low=float(np.sort([v.min() for v in speakers])[1]),
        high=float(np.sort([v.max() for v in speakers])[-2]),
        bounds=(_rank_bound(len(speakers), error), _beyond_bound(len(speakers), error)),
    )


def _rank_bound(n: int, error: float) -> float:
    """Upper bound of the mean rank: the mean of n uniform numbers, which are lighter-tailed than
    the normal distribution used here. Cutting speakers into several calls only narrows it."""
    return min(1.0, 0.5 + NormalDist().inv_cdf(1.0 - error) / math.sqrt(12 * n))


def _beyond_bound(n: int, error: float) -> float:
    """The p at which at most one of n speakers beyond it is as unlikely as `error`."""
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        unlikely = (1 - p) ** n + n * p * (1 - p) ** (n - 1) <= error
        low, high = (low, p) if unlikely else (p, high)
    return high


def initial(signals: int) -> Array:
    """The statistic (signal, side, score, fraction) before any call."""
    return np.zeros((signals, 2, 2, len(FRACTIONS)))


def step(statistic: Array, bets: Array) -> Array:
    """The statistic after one more call; leading axes of either broadcast."""
    return np.minimum((statistic + 1.0) * bets, CEILING)


def combined(statistic: Array) -> Array:
    """What is compared with the ARL: the mean over signals (last four axes)."""
    return statistic.mean(axis=(-4, -3, -2, -1))


def by_signal(statistic: Array) -> Array:
    """Each signal's part of `combined` (..., signal); their sum is `combined`."""
    return statistic.mean(axis=(-3, -2, -1)) / statistic.shape[-4]
