"""What training, judging, export and evaluation know of a network, whatever its family."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss

from hearloop.architecture import Shape
from hearloop.features import MEL_BINS
from hearloop.tokenizer import BLANK

__all__ = ["LogMelModel", "Model", "convolve"]


class Model(nn.Module):
    """Features to log-probabilities of characters, one output every 40 ms."""

    unused_at_times: ClassVar[bool] = False
    """Whether there are steps in which some weights have no part: workers must look for them."""

    def __init__(self, architecture: Shape) -> None:
        super().__init__()
        self.architecture = architecture

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def calibrate(self, mean: Tensor, deviation: Tensor) -> None:
        """Learn (bins,) mean and deviation of the speech to train on, before the first step."""

    def initial_states(self, batch: int) -> tuple[Tensor, ...]:
        """States of `batch` new streams, in the order of `Shape.state_shapes`."""
        shapes = self.architecture.state_shapes(batch).values()
        return tuple(torch.zeros(shape, device=self.device) for shape in shapes)

    @abstractmethod
    def forward(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        """Next piece of each stream.

        Args:
            x: features (N, T, bins); T a multiple of 4, or of `Shape.chunk_frames`.
            states: what the pieces before left behind.

        Returns:
            log-probabilities (N, T / 4, vocabulary) and the states for the next piece.
        """

    def posteriors(self, x: Tensor, outputs: Tensor) -> Tensor:
        """Log-probabilities (N, T / 4, vocabulary) of whole utterances, as they are served.

        Args:
            x: features (N, T, bins), silence after the end.
            outputs: (N,) outputs about each utterance (`Shape.outputs`).
        """
        return self(x, self.initial_states(len(x)))[0]

    def loss(self, x: Tensor, outputs: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """Sum of the losses of a batch in nats; a `training.batches.Batch` in pieces."""
        return self.ctc(self.posteriors(x, outputs), outputs, targets, target_lengths)

    def ctc(
        self, log_probs: Tensor, outputs: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> Tensor:
        """Sum of the CTC losses of (N, T / 4, vocabulary) in nats."""
        # At the first outputs nothing has been heard yet. If CTC may write there, it learns to
        # guess the first word by its frequency, and never learns to hear it.
        deaf = self.architecture.lookahead
        return ctc_loss(
            log_probs[:, deaf:].transpose(0, 1).float(),
            targets,
            outputs,
            target_lengths,
            blank=BLANK,
            reduction="sum",
            zero_infinity=True,  # a stretched utterance may have fewer frames than characters
        )

    def begin_step(self, step: int) -> None:
        """Training begins a step, counted from 0."""

    def compile_parts(self, backend: str = "inductor") -> None:
        """Compile what a GPU gains from; LSTMs have kernels of their own."""


class LogMelModel(Model):
    """A network that brings its log-mel features to mean 0 and deviation 1."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, architecture: Shape) -> None:
        super().__init__(architecture)
        self.register_buffer("mean", torch.zeros(MEL_BINS))
        self.register_buffer("deviation", torch.ones(MEL_BINS))

    def calibrate(self, mean: Tensor, deviation: Tensor) -> None:
        """Remember (80,) mean and deviation."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def normalised(self, x: Tensor) -> Tensor:
        """(N, T, 80) with mean 0 and deviation 1, as (N, 80, T)."""
        return ((x - self.mean) / self.deviation).transpose(1, 2)


def convolve(convolution: nn.Conv1d, before: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Causal convolution of (N, C, T); `before` are the frames that came last, (N, C, k - s)."""
    x = torch.cat([before, x], dim=2)
    return convolution(x), x[:, :, x.shape[2] - before.shape[2] :]
