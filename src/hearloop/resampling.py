"""Confidence bounds for error rates when utterances come in blocks, one for each speaker.

Utterances of one speaker rise and fall together, so a bootstrap that draws utterances believes
too much; the blockwise bootstrap draws whole speakers (Liu and Peng 2019, arXiv 1912.09508;
Bisani and Ney 2004). Two models are compared on the same draws. With few blocks the percentile
interval is too narrow; the levels are widened as in Hesterberg's "expanded percentile" interval
(arXiv 1411.5279): 40 blocks widen the 95 % bound by 4 %, 10 blocks by 17 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr, stdtrit

__all__ = ["Bootstrap", "block_sums", "bootstrap", "holm"]

_ROWS = 64
"""Resamples drawn at a time: their counts stay in the processor's cache."""

_BEYOND = 10
"""Resamples that must lie beyond a quantile for it to be one."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """An estimate with the estimates of its resamples.

    Leading axes are kept: `estimate` (…), `replicates` (…, resamples).
    """

    estimate: Floats
    replicates: Floats
    blocks: int

    @property
    def standard_error(self) -> Floats:
        """Standard error of the estimate; 0 when there is a single block."""
        spread = self.replicates.std(axis=-1)
        return np.asarray(spread * _widening(self.blocks))

    def bound(self, level: float) -> Floats:
        """The one-sided bound that the true value stays below with probability `level`.

        A quantile of the resamples; Student's t on their standard error at levels so small that
        only the most extreme resamples lie beyond.
        """
        t = stdtrit(max(self.blocks - 1, 1), level)
        widened = ndtr(_widening(self.blocks) * t)
        if min(widened, 1 - widened) * self.replicates.shape[-1] < _BEYOND:
            return np.asarray(self.estimate + t * self.standard_error)
        return np.asarray(np.quantile(self.replicates, widened, axis=-1))

    def p_not_below(self, margin: float) -> Floats:
        """p-value of "the true value is `margin` or more": small when it is clearly below.

        Student's t on the resampled standard error: a share of resamples could not tell apart
        the small levels at which many slices are tested.
        """
        distance = self.estimate - margin
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = distance / self.standard_error
        p_values = stdtr(max(self.blocks - 1, 1), steps)
        return np.asarray(np.where(self.standard_error > 0, p_values, distance >= 0))

    def detectable(self, alpha: float, power: float) -> Floats:
        """Smallest true difference that a one-sided test at `alpha` finds with `power`."""
        degrees = max(self.blocks - 1, 1)
        quantiles = stdtrit(degrees, 1 - alpha) + stdtrit(degrees, power)
        return np.asarray(quantiles * self.standard_error)


def block_sums(blocks: Sequence[str], values: Floats) -> Floats:
    """Sum the columns of `values` (utterances, columns) within blocks, in order of block name.

    Returns (columns, blocks).
    """
    names, index = np.unique(np.asarray(blocks, dtype=object), return_inverse=True)
    return np.stack(
        [np.bincount(index, weights=column, minlength=len(names)) for column in values.T]
    )


def bootstrap(numerators: Floats, lengths: Floats, *, resamples: int, seed: int) -> Bootstrap:
    """Resample the rate sum(numerators) / sum(lengths) by drawing blocks with replacement.

    `numerators` (…, blocks): errors of each block, or errors of the challenger minus those of the
    champion; `lengths` (…, blocks) or (blocks,): reference words of each block.
    Raises ValueError when there is no block or no reference word.
    """
    numerators, lengths = np.asarray(numerators, float), np.asarray(lengths, float)
    blocks = numerators.shape[-1]
    if not blocks or np.any(lengths.sum(axis=-1) <= 0):
        raise ValueError("there is no reference word to resample")
    draws = _draws(blocks, resamples, seed)
    # A resample can draw nothing but blocks without words; it then counts as one word long.
    drawn_lengths = np.maximum(lengths @ draws.T, 1.0)
    return Bootstrap(
        estimate=np.asarray(numerators.sum(axis=-1) / lengths.sum(axis=-1)),
        replicates=(numerators @ draws.T) / drawn_lengths,
        blocks=blocks,
    )


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses Holm's step-down procedure (1979) rejects at family-wise level `alpha`."""
    rejected = [False] * len(p_values)
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] > alpha / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


def _draws(blocks: int, resamples: int, seed: int) -> Floats:
    """How often each block is drawn in each resample, (resamples, blocks)."""
    generator = np.random.default_rng(seed)
    draws = np.empty((resamples, blocks))
    for start in range(0, resamples, _ROWS):
        rows = min(_ROWS, resamples - start)
        drawn = generator.integers(0, blocks, (rows, blocks))
        drawn += blocks * np.arange(rows)[:, np.newaxis]
        counts = np.bincount(drawn.ravel(), minlength=rows * blocks)
        draws[start : start + rows] = counts.reshape(rows, blocks)
    return draws


def _widening(blocks: int) -> float:
    """Ratio of the sample's standard deviation to the one that resampling sees."""
    return float(np.sqrt(blocks / (blocks - 1))) if blocks > 1 else 1.0
