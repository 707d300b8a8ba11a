"""What is in each batch: a pure function of the seed and the step.

Neither the number of workers nor an interruption changes it, so a run that was killed goes on
as if it had not been: no utterance is repeated or skipped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.signal import fftconvolve
from torch import Tensor

from hearloop.architecture import Shape
from hearloop.features import FRAME_SECONDS, MEL_BINS, SAMPLE_RATE, Matrix, Samples, log_mel
from hearloop.recipe import Augmentation
from hearloop.streamed import SHARDS_TOGETHER, LazyFeatures
from hearloop.training.augmentation import augment, respeak

__all__ = ["Batch", "BatchPlan", "Example", "assemble", "collate", "noise_examples"]

_POOL: Final = 12
"""Batches that are filled from one random pool sorted by length: enough to pad little, few
enough to mix."""
_NOISE_SECONDS: Final = (1.0, 4.0)
_NOISE_LEVEL: Final = (-80.0, -15.0)
"""Range of the noise examples, in dB to full scale."""
_TONE_HZ: Final = (80.0, 3000.0)
"""From the hum of the mains to the signals of a telephone network."""
_KNOCKS_PER_SECOND: Final = (0.5, 8.0)
_KNOCK_SECONDS: Final = (0.002, 0.03)
"""Time in which a knock falls to a third: a key, a cup on a table."""

_Noise = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One utterance in memory: (t, 80) features and the ids of its text."""

    id: str
    features: npt.NDArray[np.float16] | Matrix | LazyFeatures
    ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Utterances padded to a common length, ready for the network and the CTC loss."""

    x: Tensor
    """(N, T, bins) float32; 80 bins for most families (`Shape.bins`)."""
    outputs: Tensor
    """(N,) outputs about each utterance (`Architecture.outputs`)."""
    targets: Tensor
    """Ids of all texts, one after the other."""
    target_lengths: Tensor
    """(N,) ids of each text."""

    def to(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The arguments of `Model.loss`. Lengths stay here: CTC reads them before it starts."""
        x = self.x.pin_memory() if device.type == "cuda" else self.x
        there = x.to(device, non_blocking=True), self.targets.to(device, non_blocking=True)
        return there[0], self.outputs, there[1], self.target_lengths


class BatchPlan:
    """Which utterances make up the batch of each step.

    Each epoch takes every utterance once, in an order of its own; utterances of like length
    share a batch.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        frames: int,
        seed: int,
        shards: Sequence[int | None] | None = None,
    ) -> None:
        """Plan batches of about `frames` feature frames from utterances of `lengths` frames.

        shards: where utterances are, None for those in memory. Those of a few shards are then
        heard together, so that few shards have to be held.
        """
        self._shards = shards
        self._lengths = np.asarray(lengths)
        self._frames = frames
        self._seed = seed
        self._epochs: list[list[list[int]]] = []
        self._first_steps = [0]

    def batch(self, step: int) -> list[int]:
        """Indices of the utterances of a step; steps count from 0."""
        while self._first_steps[-1] <= step:
            self._epochs.append(self._epoch(len(self._epochs)))
            self._first_steps.append(self._first_steps[-1] + len(self._epochs[-1]))
        epoch = int(np.searchsorted(self._first_steps, step, side="right")) - 1
        return self._epochs[epoch][step - self._first_steps[epoch]]

    def _epoch(self, number: int) -> list[list[int]]:
        rng = np.random.default_rng([self._seed, number])
        order = self._order(rng)
        ends = np.cumsum(self._lengths[order])
        pools = np.searchsorted(
            ends, np.arange(1, ends[-1] // (_POOL * self._frames) + 1) * _POOL * self._frames
        )
        batches: list[list[int]] = []
        for pool in np.split(order, pools):
            batches += self._fill(pool[np.argsort(self._lengths[pool], kind="stable")].tolist())
        if self._shards is None:
            return [batches[index] for index in rng.permutation(len(batches))]
        near = [batches[at : at + _POOL] for at in range(0, len(batches), _POOL)]
        return [part[index] for part in near for index in rng.permutation(len(part))]

    def _order(self, rng: np.random.Generator) -> npt.NDArray[np.intp]:
        """All utterances, by chance; of shards a few at a time, and those in memory throughout."""
        order = rng.permutation(len(self._lengths))
        if self._shards is None:
            return order
        names = sorted({shard for shard in self._shards if shard is not None})
        turns = dict(zip(rng.permutation(names).tolist(), range(len(names)), strict=True))
        windows = max(1, -(-len(names) // SHARDS_TOGETHER))
        drawn = rng.integers(windows, size=len(order))
        window = [
            drawn[index] if shard is None else turns[shard] // SHARDS_TOGETHER
            for index, shard in enumerate(self._shards)
        ]
        return order[np.argsort(np.asarray(window)[order], kind="stable")]

    def _fill(self, pool: list[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        room = 0
        for index in pool:
            length = int(self._lengths[index])
            if length > room or not batches:
                batches.append([])
                room = self._frames
            batches[-1].append(index)
            room -= length
        return batches


def assemble(
    examples: Sequence[Example],
    indices: Sequence[int],
    architecture: Shape,
    augmentation: Augmentation,
    *,
    seed: int,
    step: int,
    rank: int,
    workers: int,
) -> Batch:
    """One worker's part of a step's batch, each utterance varied in a way of its own.

    The variation depends on the seed, the step and the place in the batch, not on the worker.
    """
    features, ids = [], []
    for place in range(rank, len(indices), workers):
        example = examples[indices[place]]
        rng = np.random.default_rng([seed, step, place])
        vary = augment if architecture.bins == MEL_BINS else respeak
        features.append(vary(example.features.astype(np.float32), rng, augmentation))
        ids.append(example.ids)
    return collate(features, ids, architecture)


def collate(features: Sequence[Matrix], ids: Sequence[Sequence[int]], architecture: Shape) -> Batch:
    """Pad features with digital silence, as the recogniser does.

    A worker that is left without an utterance gets a row of silence of which no output counts:
    its gradient is 0, and the others need not wait for it in vain.
    """
    padded = [architecture.padded_frames(len(matrix)) for matrix in features]
    spans = [architecture.outputs(len(matrix)) for matrix in features]
    rows, frames = max(1, len(features)), max(padded, default=architecture.padded_frames(0))
    x = np.full((rows, frames, architecture.bins), architecture.silence, np.float32)
    for row, matrix in enumerate(features):
        x[row, : len(matrix)] = matrix
    return Batch(
        x=torch.from_numpy(x),
        outputs=torch.tensor([span.stop - span.start for span in spans] or [0]),
        targets=torch.tensor([index for text in ids for index in text], dtype=torch.long),
        target_lengths=torch.tensor([len(text) for text in ids] or [0]),
    )


def noise_examples(
    count: int, seed: int, features: Callable[[Samples], Matrix] = log_mel
) -> list[Example]:
    """Hiss, tones and knocks of many levels: where nobody speaks, nothing is to be written."""
    rng = np.random.default_rng([seed, 1])
    return [
        Example(id=f"noise-{number}", features=features(_noise(rng)), ids=(), text="")
        for number in range(count)
    ]


def _noise(rng: np.random.Generator) -> Samples:
    length = round(rng.uniform(*_NOISE_SECONDS) / FRAME_SECONDS) * 160
    kind = _NOISES[rng.integers(len(_NOISES))]
    samples = kind(rng, length) + 0.02 * _hiss(rng, length)
    level = 10 ** (rng.uniform(*_NOISE_LEVEL) / 20)
    return (samples / samples.std() * level).astype(np.float32)


def _hiss(rng: np.random.Generator, length: int) -> _Noise:
    spectrum = np.fft.rfft(rng.normal(size=length))
    # Power falls as 1 / f^colour: white, pink, brown and what lies between.
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** (rng.uniform(0.0, 2.0) / 2)
    samples = np.fft.irfft(spectrum, length)
    return np.asarray(samples / samples.std())


def _tones(rng: np.random.Generator, length: int) -> _Noise:
    """One to three steady tones, every other time with pauses between them."""
    times = np.arange(length) / SAMPLE_RATE
    pitches = rng.uniform(*_TONE_HZ, size=rng.integers(1, 4))
    sounds = np.sin(2 * np.pi * pitches[:, None] * times + rng.uniform(0, 6.3)).sum(axis=0)
    on = times % rng.uniform(0.2, 2.0) < rng.uniform(0.1, 1.0)
    return np.asarray(sounds * on if rng.random() < 0.5 else sounds)


def _knocks(rng: np.random.Generator, length: int) -> _Noise:
    """Clicks, taps and knocks: bursts that die away."""
    onsets = np.zeros(length)
    count = rng.poisson(rng.uniform(*_KNOCKS_PER_SECOND) * length / SAMPLE_RATE) + 1
    onsets[rng.integers(0, length, count)] = rng.uniform(0.2, 1.0, count)
    decay = np.exp(-np.arange(SAMPLE_RATE // 10) / (rng.uniform(*_KNOCK_SECONDS) * SAMPLE_RATE))
    return np.asarray(fftconvolve(onsets, decay)[:length] * _hiss(rng, length))


_NOISES: Final = (_hiss, _tones, _knocks)
