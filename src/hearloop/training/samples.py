"""What a training sounds like meanwhile: transcripts and a picture of development utterances."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from hearloop import decoding
from hearloop.architecture import OUTPUT_SECONDS
from hearloop.features import Matrix
from hearloop.model import Model
from hearloop.tokenizer import Tokenizer
from hearloop.training.batches import Example
from hearloop.training.judging import posteriors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Sample", "listen", "picture", "table"]

_SAMPLES: Final = 8
"""Utterances to show: the same ones each time, so that they can be followed."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One utterance as the network hears it now."""

    text: str
    heard: str
    features: Matrix
    """(t, 80)."""
    probabilities: Matrix
    """(outputs, V), the blank first."""


def listen(network: Model, examples: Sequence[Example], tokenizer: Tokenizer) -> list[Sample]:
    """The first few examples as they are heard."""
    return [
        Sample(
            text=example.text,
            heard=decoding.transcribe(log_probs, tokenizer).text,
            features=example.features.astype(np.float32),
            probabilities=np.exp(log_probs),
        )
        for example, log_probs in posteriors(network, examples[:_SAMPLES])
    ]


def table(samples: Sequence[Sample]) -> str:
    """Transcripts in Markdown."""
    rows = [f"| {one.text} | {one.heard} |" for one in samples]
    return "\n".join(["| said | heard |", "|---|---|", *rows]) + "\n"


def picture(sample: Sample, symbols: Sequence[str]) -> "Figure":
    """Features above, below them which symbol is written when: the alignment."""
    from matplotlib.figure import Figure

    seconds = len(sample.probabilities) * OUTPUT_SECONDS
    figure = Figure(figsize=(12, 7), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    above.imshow(
        sample.features.T,
        aspect="auto",
        origin="lower",
        extent=(0, len(sample.features) / 100, 0, sample.features.shape[1]),
    )
    above.set(title=f"said: {sample.text}\nheard: {sample.heard}", ylabel="mel bin")
    written = [index for index in sorted(set(sample.probabilities.argmax(axis=1))) if index]
    rows = sample.probabilities[:, written].T if written else np.zeros((1, 1))
    below.imshow(
        rows, aspect="auto", cmap="gray_r", vmin=0, vmax=1, extent=(0, seconds, len(rows), 0)
    )
    below.set(xlabel="seconds", ylabel="written", xlim=(0, seconds))
    below.set_yticks(np.arange(len(written)) + 0.5, [symbols[index - 1] for index in written])
    return figure
