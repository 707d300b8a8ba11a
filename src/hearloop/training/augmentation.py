"""Variations of log-mel features that a recogniser has to understand all the same.

All work on features, so that audio is decoded and analysed once. Each takes its own random
generator and returns a new array.
"""

from typing import Final

import numpy as np

from hearloop.features import FLOOR, MEL_BINS, Matrix, mel_centres

__all__ = ["augment", "band_limit", "gain", "mask", "stretch"]

_STRETCH: Final = (-0.05, 0.15)
"""Shares by which speech is made longer. Hardly shorter: brisk speech would then have more
characters than the network has outputs."""
_GAIN_NATS: Final = (-4.6, 1.4)
"""Range in which log energy is shifted, from 20 dB softer to 6 dB louder: telephones and
microphones differ by as much, and a model that never heard soft speech hears nothing in it."""
_FREQUENCY_MASKS: Final = 2
_MASKED_BINS: Final = 10
_TIME_MASKS: Final = 2
_MASKED_FRAMES: Final = 8
"""SpecAugment (arXiv 1904.08779), light: up to 10 bins and 80 ms, twice each."""
_BAND_LIMITED: Final = 0.15
"""Share of utterances that are heard through a narrow band."""
_LOW_HZ: Final = (0.0, 350.0)
_HIGH_HZ: Final = (3200.0, 4200.0)
"""Ranges of the band's edges: around a telephone's 300 to 3400 Hz."""
_CENTRES: Final = mel_centres()


def augment(features: Matrix, rng: np.random.Generator) -> Matrix:
    """One random variation of (t, 80) features, about as long."""
    varied = gain(stretch(features, rng), rng)
    if rng.random() < _BAND_LIMITED:
        varied = band_limit(varied, rng)
    return mask(varied, rng)


def stretch(features: Matrix, rng: np.random.Generator) -> Matrix:
    """Make (t, 80) features 5 % shorter to 15 % longer by linear interpolation over time."""
    length = max(1, round(len(features) * (1 + rng.uniform(*_STRETCH))))
    at = np.linspace(0, len(features) - 1, length, dtype=np.float32)
    before = at.astype(np.intp)
    after = np.minimum(before + 1, len(features) - 1)
    share = (at - before.astype(np.float32))[:, None]
    return features[before] * (1 - share) + features[after] * share


def gain(features: Matrix, rng: np.random.Generator) -> Matrix:
    """Make (t, 80) features up to 20 dB softer or 6 dB louder."""
    return np.maximum(features + np.float32(rng.uniform(*_GAIN_NATS)), FLOOR)


def band_limit(features: Matrix, rng: np.random.Generator) -> Matrix:
    """Take from (t, 80) features what lies outside a band about as narrow as a telephone's.

    What is left there is a weak, unsteady rest: the noise of a codec, at a random level.
    """
    outside = (rng.uniform(*_LOW_HZ) > _CENTRES) | (rng.uniform(*_HIGH_HZ) < _CENTRES)
    limited = features.copy()
    level = rng.uniform(FLOOR, features.mean())
    rest = rng.normal(level, rng.uniform(0.0, 1.0), (len(features), int(outside.sum())))
    limited[:, outside] = np.clip(rest, FLOOR, features[:, outside])
    return limited


def mask(features: Matrix, rng: np.random.Generator) -> Matrix:
    """Replace a few bands and moments of (t, 80) features by the mean (light SpecAugment)."""
    masked = features.copy()
    mean = features.mean()
    for _ in range(_FREQUENCY_MASKS):
        width = int(rng.integers(_MASKED_BINS + 1))
        first = rng.integers(MEL_BINS - width + 1)
        masked[:, first : first + width] = mean
    for _ in range(_TIME_MASKS):
        width = min(int(rng.integers(_MASKED_FRAMES + 1)), len(features) // 4)
        first = rng.integers(len(features) - width + 1)
        masked[first : first + width] = mean
    return masked
