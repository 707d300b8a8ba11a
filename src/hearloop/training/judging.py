"""Word error rate on development sets while training; the gate judges on other speech."""

from collections.abc import Sequence
from typing import Final

import torch

from hearloop import decoding
from hearloop.model import Model
from hearloop.scoring import count_words, total
from hearloop.tokenizer import Tokenizer
from hearloop.training.batches import Example, collate

__all__ = ["word_error_rate"]

_TOGETHER: Final = 16
"""Utterances recognised at once."""


def word_error_rate(network: Model, examples: Sequence[Example], tokenizer: Tokenizer) -> float:
    """WER of the greedy transcripts, as a fraction of the reference words."""
    training = network.training
    network.eval()
    by_length = sorted(examples, key=lambda example: len(example.features))
    counts = []
    with torch.inference_mode():
        for start in range(0, len(by_length), _TOGETHER):
            part = by_length[start : start + _TOGETHER]
            batch = collate(
                [example.features.astype("float32") for example in part],
                [example.ids for example in part],
                network.architecture,
            )
            log_probs = network.posteriors(batch.x.to(network.device), batch.outputs)
            for example, row in zip(part, log_probs.cpu().numpy(), strict=True):
                heard = row[network.architecture.outputs(len(example.features))]
                text = decoding.transcribe(heard, tokenizer).text
                counts.append(count_words(example.text, text))
    network.train(training)
    return total(counts).rate
