"""Recordings without a word: a recogniser that hears one there invents it.

The set is fixed, so that models of different days can be compared: what a telephone line carries
while nobody speaks, each kind at four levels, every other clip through a telephone channel.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearloop.audio import SAMPLE_RATE, Samples, telephone

__all__ = ["SECONDS", "Clip", "clips"]

SECONDS = 5.0
"""Length of a clip: the pause of a caller who looks something up."""

_LEVELS_DBFS = (-60.0, -45.0, -30.0, -20.0)
"""From a quiet room to a busy street, root mean square relative to full scale."""
_SEED = 0
_HUM_HZ = 50.0
_DIAL_TONE_HZ = (350.0, 440.0)
"""ITU-T E.180 supplement 2, United States."""
_KEYPRESSES_PER_SECOND = 3
_KEYPRESS_DECAY_S = 0.01

Noise = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A recording without speech, (n,) samples at 16 kHz."""

    kind: str
    samples: Samples


def clips() -> Iterator[Clip]:
    """The fixed set: digital silence, then each kind of noise at each level."""
    yield Clip(kind="silence", samples=np.zeros(int(SECONDS * SAMPLE_RATE), np.float32))
    for number, (kind, make) in enumerate(_KINDS.items()):
        generator = np.random.default_rng((_SEED, number))
        for position, level in enumerate(_LEVELS_DBFS):
            noise = make(generator)
            gain = 10 ** (level / 20) / np.sqrt(np.mean(noise**2))
            samples = np.clip(gain * noise, -1.0, 1.0).astype(np.float32)
            heard = telephone(samples) if position % 2 else samples
            yield Clip(kind=kind, samples=np.clip(heard, -1.0, 1.0))


def _times() -> Noise:
    return np.arange(int(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE


def _white(generator: np.random.Generator) -> Noise:
    return generator.standard_normal(len(_times()))


def _brown(generator: np.random.Generator) -> Noise:
    """Wind and traffic: power falls by 6 dB an octave."""
    walk = np.cumsum(_white(generator))
    return np.asarray(walk - np.convolve(walk, np.ones(801) / 801, mode="same"))


def _hum(generator: np.random.Generator) -> Noise:
    """The mains and its harmonics, with a little hiss."""
    phases = generator.uniform(0, 2 * np.pi, 8)
    harmonics = [
        np.sin(2 * np.pi * _HUM_HZ * order * _times() + phase) / order
        for order, phase in enumerate(phases, start=1)
    ]
    return np.asarray(np.sum(harmonics, axis=0) + 0.01 * _white(generator))


def _dial_tone(generator: np.random.Generator) -> Noise:
    tones = [np.sin(2 * np.pi * pitch * _times()) for pitch in _DIAL_TONE_HZ]
    return np.asarray(np.sum(tones, axis=0) + 0.01 * _white(generator))


def _keypresses(generator: np.random.Generator) -> Noise:
    """Clicks that die away within tens of milliseconds, over a little hiss."""
    onsets = np.zeros(len(_times()))
    presses = generator.integers(0, len(onsets), int(SECONDS * _KEYPRESSES_PER_SECOND))
    onsets[presses] = 1.0
    decay = np.exp(-_times()[: SAMPLE_RATE // 10] / _KEYPRESS_DECAY_S)
    envelope = np.convolve(onsets, decay)[: len(onsets)]
    return np.asarray((envelope + 0.01) * _white(generator))


_KINDS: dict[str, Callable[[np.random.Generator], Noise]] = {
    "white noise": _white,
    "wind and traffic": _brown,
    "mains hum": _hum,
    "dial tone": _dial_tone,
    "keypresses": _keypresses,
}
