"""Rooms and noise around training speech, laid over its features as it is needed.

Powers in a mel band add up: noise is added to speech, and a room adds what it heard before, which
dies away exponentially (Polack 1988; used on features by Sehr and Kellermann 2008). Against a
convolution of samples this leaves out the phases, so the powers of what comes late are drawn at
random around their mean, as those of a sum of many echoes are. It costs a tenth.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve, lfilter

from hearloop.features import (
    FLOOR,
    FRAME_SECONDS,
    MEL_BINS,
    SAMPLE_RATE,
    Matrix,
    Samples,
    log_mel,
    mel_centres,
)

__all__ = ["POWERS_OF_WHITE", "SNR_DB", "echoes", "loudness", "place"]

_RT60: Final = (0.1, 0.7)
"""Seconds in which a room's sound falls by 60 dB: from a car to a hall."""
_RT60_TILT: Final = (1.1, 1.0, 0.85, 0.65)
"""RT60 from the lowest to the highest quarter of the bins, to the mean: air and cloth take
high sounds first."""
_DIRECT_DB: Final = (-6.0, 9.0)
"""Range of the direct sound's energy over that of what comes later: across a room to close by."""
_COLOUR_NATS: Final = (0.1, 0.9)
"""Range of the standard deviation by which the first echoes make a low bin louder or softer."""
SNR_DB: Final = (5.0, 35.0)
_COLOUR: Final = (0.0, 2.5)
"""Exponents by which noise falls with frequency: white, pink, brown, and far voices."""
_KNEE_HZ: Final = 200.0
"""Below it no noise rises further."""
_SWELL_FRAMES: Final = 12
"""Between two levels of a noise that comes and goes: 120 ms, about a syllable."""
_SWELL_NATS: Final = (0.0, 1.0)

_Powers = npt.NDArray[np.float32]


def _powers_of_white() -> _Powers:
    samples = np.random.default_rng(0).standard_normal(10 * SAMPLE_RATE, np.float32)
    return np.asarray(np.exp(log_mel(samples)).mean(axis=0))


POWERS_OF_WHITE: Final = _powers_of_white()
"""(80,) mean powers of the bins for white noise whose samples have a power of 1."""
_CENTRES: Final = mel_centres()
_WIDTHS: Final = 700.0 + _CENTRES
"""Widths of the bins, in proportion: mel is logarithmic above 700 Hz."""
_SHARES: Final = (_WIDTHS / _WIDTHS.sum() / POWERS_OF_WHITE).astype(np.float32)
_UNSTEADY: Final = np.linspace(1.0, 0.35, MEL_BINS, dtype=np.float32)
"""Standard deviation to mean of a bin's power in noise: a low bin is one point of the spectrum, a
high one the mean of eight."""
_LOWEST: Final = np.float32(np.exp(FLOOR))


def loudness(powers: _Powers) -> _Powers:
    """About the power of the samples in each of (t, 80) frames, without pre-emphasis."""
    return powers @ _SHARES


def place(features: Matrix, rng: np.random.Generator, *, room: bool, noise: bool) -> Matrix:
    """(t, 80) features as they would be in a random room, in random noise, or in both."""
    powers = np.exp(features)
    if room:
        powers = _in_room(powers, rng)
    if noise:
        powers += _noise(powers, rng)
    return np.log(np.maximum(powers, _LOWEST, out=powers), out=powers)


def echoes(samples: Samples, rng: np.random.Generator) -> Samples:
    """Samples (n,) as they would be in a random room: noise that dies away (Polack 1988)."""
    late = rng.standard_normal(round(rng.uniform(*_RT60) * SAMPLE_RATE))
    late *= 10 ** (-3 * np.arange(len(late)) / len(late))
    late *= np.sqrt(10 ** (-rng.uniform(*_DIRECT_DB) / 10) / np.sum(late**2))
    late[0] = 1.0  # what comes straight
    return fftconvolve(samples, late)[: len(samples)].astype(np.float32)


def _in_room(powers: _Powers, rng: np.random.Generator) -> _Powers:
    rt60 = rng.uniform(*_RT60)
    late = np.empty_like(powers)
    for part, tilt in zip(np.split(np.arange(MEL_BINS), len(_RT60_TILT)), _RT60_TILT, strict=True):
        kept = 10 ** (-6 * FRAME_SECONDS / (rt60 * tilt * rng.uniform(0.9, 1.1)))
        bins = slice(part[0], part[-1] + 1)
        coefficients = np.array([0, 1 - kept], np.float32), np.array([1, -kept], np.float32)
        late[:, bins] = lfilter(*coefficients, powers[:, bins], axis=0)
    late *= _unsteady(len(powers), rng) * np.float32(10 ** (-rng.uniform(*_DIRECT_DB) / 10))
    colour = rng.uniform(*_COLOUR_NATS) * _UNSTEADY * rng.standard_normal(MEL_BINS, np.float32)
    return np.asarray(powers * np.exp(colour, dtype=np.float32) + late)


def _noise(powers: _Powers, rng: np.random.Generator) -> _Powers:
    falls = (np.maximum(_CENTRES, _KNEE_HZ) / 1000.0) ** -rng.uniform(*_COLOUR)
    spectrum = POWERS_OF_WHITE * falls.astype(np.float32)
    knots = np.arange(0, len(powers) + _SWELL_FRAMES, _SWELL_FRAMES)
    levels = np.exp(rng.uniform(*_SWELL_NATS) * rng.normal(size=len(knots)))
    swell = np.interp(np.arange(len(powers)), knots, levels).astype(np.float32)
    noise = _unsteady(len(powers), rng) * spectrum * swell[:, None]
    share = 10 ** (-rng.uniform(*SNR_DB) / 10)
    return noise * np.float32(loudness(powers).mean() / loudness(noise).mean() * share)


def _unsteady(frames: int, rng: np.random.Generator) -> _Powers:
    """Random factors (frames, 80) around 1; windows overlap, so every other frame's are new."""
    drawn = rng.standard_exponential((frames // 2 + 1, MEL_BINS), np.float32)
    return np.repeat(1 + _UNSTEADY * (drawn - 1), 2, axis=0)[:frames]
