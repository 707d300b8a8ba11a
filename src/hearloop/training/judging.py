"""Word error rate on development sets while training; the gate judges on other speech."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from hearloop import decoding
from hearloop.model import Model
from hearloop.scoring import count_words, total
from hearloop.tokenizer import Tokenizer
from hearloop.training.batches import Example, collate

__all__ = ["posteriors", "word_error_rate"]

_TOGETHER: Final = 16
"""Utterances recognised at once."""


def word_error_rate(network: Model, examples: Sequence[Example], tokenizer: Tokenizer) -> float:
    """WER of the greedy transcripts, as a fraction of the reference words."""
    return total(
        count_words(example.text, decoding.transcribe(heard, tokenizer).text)
        for example, heard in posteriors(network, examples)
    ).rate


def posteriors(
    network: Model, examples: Sequence[Example]
) -> Iterator[tuple[Example, npt.NDArray[np.float32]]]:
    """Log-probabilities (outputs, V) of each example, those of like length together."""
    training = network.training
    network.eval()
    by_length = sorted(examples, key=lambda example: len(example.features))
    for start in range(0, len(by_length), _TOGETHER):
        part = by_length[start : start + _TOGETHER]
        batch = collate(
            [example.features.astype("float32") for example in part],
            [example.ids for example in part],
            network.architecture,
        )
        with torch.inference_mode():
            log_probs = network.posteriors(batch.x.to(network.device), batch.outputs)
        for example, row in zip(part, log_probs.cpu().numpy(), strict=True):
            yield example, row[network.architecture.outputs(len(example.features))]
    network.train(training)
