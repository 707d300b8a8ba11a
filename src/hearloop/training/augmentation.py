"""Variations of log-mel features that a recogniser has to understand all the same.

All work on features, so that audio is decoded and analysed once. Each takes its own random
generator and returns a new array.
"""

from typing import Final

import numpy as np

from hearloop import audio
from hearloop.features import FLOOR, MEL_BINS, Matrix, mel_centres
from hearloop.recipe import Augmentation
from hearloop.training.surroundings import POWERS_OF_WHITE, SNR_DB, echoes, loudness, place

__all__ = ["augment", "gain", "mask", "respeak", "stretch", "telephone", "voice"]

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
_VOICE: Final = (0.9, 1.12)
"""Factors on all frequencies, as a shorter or longer vocal tract gives (Jaitly and Hinton 2013)."""
_LOW_HZ: Final = (0.0, 350.0)
_HIGH_HZ: Final = (3200.0, 4200.0)
"""Ranges of the band's edges: around a telephone's 300 to 3400 Hz."""
_MU_LAW: Final = 10**-3.7
"""Power of the noise of G.711's eight bits, to that of the speech at the moment (ITU-T G.191)."""
_CENTRES: Final = mel_centres()


def augment(features: Matrix, rng: np.random.Generator, options: Augmentation) -> Matrix:
    """One random variation of (t, 80) features, about as long."""
    varied = stretch(features, rng)
    if _happens(options.voices, rng):
        varied = voice(varied, rng)
    room, noise = _happens(options.rooms, rng), _happens(options.noise, rng)
    if room or noise:
        varied = place(varied, rng, room=room, noise=noise)
    varied = gain(varied, rng)
    if _happens(options.telephone, rng):
        varied = telephone(varied, rng)
    return mask(varied, rng)


def respeak(samples: Matrix, rng: np.random.Generator, options: Augmentation) -> Matrix:
    """One random variation of raw samples in rows (t, 160).

    All of them vary in speed with pitch, which gives other voices too, and in loudness.
    """
    flat = samples.ravel()
    rows = max(1, round(len(samples) * (1 + rng.uniform(*_STRETCH))))
    at = np.linspace(0, max(0, len(flat) - 1), rows * samples.shape[1])
    spoken = np.interp(at, np.arange(len(flat)), flat).astype(np.float32)
    if _happens(options.rooms, rng):
        spoken = echoes(spoken, rng)
    if _happens(options.noise, rng):
        spoken = audio.add_noise(spoken, rng.uniform(*SNR_DB), rng)
    spoken *= np.float32(np.exp(rng.uniform(*_GAIN_NATS) / 2))  # of amplitude, not of energy
    if _happens(options.telephone, rng):
        spoken = audio.telephone(spoken)
    return spoken.reshape(rows, -1)


def _happens(share: float, rng: np.random.Generator) -> bool:
    return share > 0 and bool(rng.random() < share)


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


def voice(features: Matrix, rng: np.random.Generator) -> Matrix:
    """Move all frequencies of (t, 80) features up or down; with `stretch`, another speed."""
    at = np.interp(_CENTRES / rng.uniform(*_VOICE), _CENTRES, np.arange(MEL_BINS))
    below = at.astype(np.intp)
    above = np.minimum(below + 1, MEL_BINS - 1)
    share = (at - below).astype(np.float32)
    return features[:, below] * (1 - share) + features[:, above] * share


def telephone(features: Matrix, rng: np.random.Generator) -> Matrix:
    """What a telephone line and G.711 leave of (t, 80) features.

    Outside a band of random edges a weak, unsteady rest; inside it the noise of eight bits.
    """
    outside = (rng.uniform(*_LOW_HZ) > _CENTRES) | (rng.uniform(*_HIGH_HZ) < _CENTRES)
    # Digital silence lies at the floor, and its mean, rounded, just below it.
    level = rng.uniform(FLOOR, max(FLOOR, float(features.mean())))
    rest = rng.normal(level, rng.uniform(0.0, 1.0), (len(features), int(outside.sum())))
    powers = np.exp(features)
    powers += np.outer(loudness(powers) * np.float32(_MU_LAW), POWERS_OF_WHITE)
    coded = np.log(powers, out=powers)
    coded[:, outside] = np.clip(rest, FLOOR, features[:, outside])
    return coded


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
