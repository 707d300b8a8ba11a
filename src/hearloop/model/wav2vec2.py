"""torchaudio's Wav2Vec2 (arXiv 2006.11477) under CTC: raw samples to characters, offline.

The encoder answers every 20 ms; two of its answers stand side by side before the new last layer,
so that an output is 40 ms as everywhere else.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchaudio.models import wav2vec2_model

from hearloop.architecture import Wav2Vec2Architecture
from hearloop.model.interface import Model

__all__ = ["OVERLAP", "OVER_OUTPUT", "Wav2Vec2"]

OVER_OUTPUT: Final = 640
"""Samples of an output: twice the distance of the encoder's answers."""
OVERLAP: Final = 80
"""Samples by which an answer of the encoder reaches beyond its own 320: zeros follow the end."""
_SMALL: Final = 1e-5
"""Added to a variance, as in the pretraining."""


class Wav2Vec2(Model):
    """Samples in rows of 10 ms to log-probabilities of characters, one output every 40 ms."""

    unused_at_times = True
    architecture: Wav2Vec2Architecture

    def __init__(self, architecture: Wav2Vec2Architecture) -> None:
        super().__init__(architecture)
        dropout, encoder = architecture.dropout, architecture.encoder
        self.encoder = wav2vec2_model(
            **encoder,
            encoder_projection_dropout=dropout,
            encoder_attention_dropout=dropout,
            encoder_ff_interm_dropout=dropout,
            encoder_dropout=dropout,
            encoder_layer_drop=0.0,  # workers could not tell which layers had no part in a step
            aux_num_out=None,
        )
        if architecture.frozen_extractor:
            self.encoder.feature_extractor.requires_grad_(False)
        self.output = nn.Linear(2 * encoder["encoder_embed_dim"], architecture.vocabulary)
        self._frozen = False

    def forward(self, x: Tensor, states: Sequence[Tensor] = ()) -> tuple[Tensor, Sequence[Tensor]]:
        """Whole utterances (N, T, 160) of one length; there are no states."""
        return self._classified(x, None), states

    def posteriors(self, x: Tensor, outputs: Tensor) -> Tensor:
        """Log-probabilities (N, T / 4, vocabulary); nothing is heard beyond each utterance."""
        return self._classified(x, outputs.to(x.device).clamp(min=1))

    def _classified(self, x: Tensor, outputs: Tensor | None) -> Tensor:
        samples = x.flatten(1)
        if self.architecture.normalised:
            samples = _normalised(samples, outputs)
        lengths = None if outputs is None else outputs * OVER_OUTPUT + OVERLAP
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            answers, _ = self.encoder(pad(samples, (0, OVERLAP)), lengths)
        return self.output(answers.unflatten(1, (-1, 2)).flatten(2)).log_softmax(-1)

    def begin_step(self, step: int) -> None:
        """The pretrained weights learn once the last layer has found its place."""
        self._frozen = step < self.architecture.frozen_steps

    def compile_parts(self, backend: str = "inductor") -> None:
        """Compile each layer of the encoder, for any length."""
        for layer in self.encoder.encoder.transformer.layers:
            layer.compile(backend=backend, dynamic=True)


def _normalised(samples: Tensor, outputs: Tensor | None) -> Tensor:
    """(N, n) with mean 0 and variance 1 over each utterance."""
    if outputs is None:
        mean, variance = samples.mean(1, keepdim=True), samples.var(1, keepdim=True, correction=0)
        return (samples - mean) * (variance + _SMALL).rsqrt()
    count = (outputs * OVER_OUTPUT)[:, None]
    within = torch.arange(samples.shape[1], device=samples.device) < count
    mean = (samples * within).sum(1, keepdim=True) / count
    variance = ((samples - mean).square() * within).sum(1, keepdim=True) / count
    return (samples - mean) * (variance + _SMALL).rsqrt() * within
