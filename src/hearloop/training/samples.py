"""What a training sounds like meanwhile: transcripts and a picture of development utterances."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torchaudio.functional import forced_align, merge_tokens

from hearloop import decoding
from hearloop.architecture import OUTPUT_SECONDS
from hearloop.decoding import LogProbs
from hearloop.features import FRAME_SECONDS, MEL_BINS, Matrix
from hearloop.model import Model
from hearloop.tokenizer import BLANK, Tokenizer
from hearloop.training.batches import Example
from hearloop.training.judging import posteriors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Sample", "align", "listen", "picture", "table", "usual"]

_SAMPLES: Final = 8
"""Utterances to show: the same ones each time, so that they can be followed."""
_SPACE: Final = "\u2423"
"""How a space is written where it would not be seen."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One utterance as the network hears it now."""

    text: str
    ids: tuple[int, ...]
    """(L,), of the text."""
    heard: str
    features: Matrix
    """(t, bins): 80 log-mel bins, or the samples of 10 ms."""
    probabilities: Matrix
    """(outputs, V), the blank first."""
    spans: tuple[tuple[int, int], ...]
    """Of each id the outputs that write it, the first and the one after the last; empty where the
    text does not fit."""


def listen(network: Model, examples: Sequence[Example], tokenizer: Tokenizer) -> list[Sample]:
    """The first few examples as they are heard."""
    return [
        Sample(
            text=example.text,
            ids=example.ids,
            heard=decoding.transcribe(log_probs, tokenizer).text,
            features=example.features.astype(np.float32),
            probabilities=np.exp(log_probs),
            spans=align(log_probs, example.ids),
        )
        for example, log_probs in posteriors(network, examples[:_SAMPLES])
    ]


def align(log_probs: LogProbs, ids: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Where the likeliest CTC path that writes `ids` does so, as `Sample.spans`.

    log_probs: (outputs, V). Nothing comes back for no text, for one of more characters than the
    outputs can write, and from a network that answers with NaN.
    """
    repeats = sum(before == after for before, after in pairwise(ids))  # a blank between the two
    if not ids or len(ids) + repeats > len(log_probs) or not np.isfinite(log_probs).all():
        return ()
    targets = torch.tensor([ids], dtype=torch.int32)
    path, nats = forced_align(torch.from_numpy(log_probs[None]), targets, blank=BLANK)
    return tuple((one.start, one.end) for one in merge_tokens(path[0], nats[0], blank=BLANK))


def usual(samples: Sequence[Sample]) -> Sample:
    """The one of median length, among those with an alignment if there are any."""
    drawn = [one for one in samples if one.spans] or samples
    return sorted(drawn, key=lambda one: len(one.features))[len(drawn) // 2]


def table(samples: Sequence[Sample]) -> str:
    """Transcripts in Markdown."""
    rows = [f"| {one.text} | {one.heard} |" for one in samples]
    return "\n".join(["| said | heard |", "|---|---|", *rows]) + "\n"


def picture(sample: Sample, symbols: Sequence[str]) -> "Figure":
    """What the network takes, and below it when the reference text was said: the alignment.

    Each row is a character of the reference, in the order spoken: how likely it is at each time,
    and a line where the alignment has it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.5 + 0.12 * len(sample.spans)), layout="constrained")
    above, below = figure.subplots(
        2, sharex=True, height_ratios=[2.5, 3 + 0.12 * len(sample.spans)]
    )
    _draw_features(above, sample.features)
    above.set_title(f"said: {sample.text}\nheard: {sample.heard}")
    _draw_alignment(below, sample, symbols)
    return figure


def _draw_features(axes: "Axes", features: Matrix) -> None:
    frames, bins = features.shape
    if bins == MEL_BINS:
        extent = (0, frames * FRAME_SECONDS, 0, bins)
        axes.imshow(features.T, aspect="auto", origin="lower", extent=extent)
        axes.set_ylabel("mel bin")
        return
    times = (np.arange(frames) + 0.5) * FRAME_SECONDS
    axes.fill_between(times, features.min(axis=1), features.max(axis=1))
    axes.set_ylabel("sample")


def _draw_alignment(axes: "Axes", sample: Sample, symbols: Sequence[str]) -> None:
    seconds = len(sample.probabilities) * OUTPUT_SECONDS
    axes.set(xlabel="seconds", xlim=(0, seconds))
    if not sample.spans:
        axes.set(ylabel="no alignment", yticks=[])
        return
    rows = len(sample.ids)
    probabilities = sample.probabilities[:, sample.ids].T
    extent = (0, seconds, rows, 0)
    axes.imshow(probabilities, aspect="auto", cmap="gray_r", vmin=0, vmax=1, extent=extent)
    starts, ends = np.array(sample.spans).T * OUTPUT_SECONDS
    middles = np.arange(rows) + 0.5
    axes.hlines(middles, starts, ends, colors="tab:red", linewidth=3)
    labels = [symbols[index - 1].replace(" ", _SPACE) for index in sample.ids]
    axes.set_yticks(middles, labels, fontsize=8)
    axes.set_ylabel("said")
