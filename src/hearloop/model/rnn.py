"""The streaming recogniser: a convolutional front end and LSTMs under CTC.

Everything is causal: a frame never depends on later ones, so that live and offline recognition
are the same computation cut into different pieces. The future that the network needs comes from
answering late: the look-ahead convolution sees 160 ms beyond the frame whose character it writes,
and training and serving alike pad the end with digital silence (`Architecture.tail`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hearloop.architecture import Architecture
from hearloop.features import MEL_BINS
from hearloop.model.interface import LogMelModel, convolve

__all__ = ["Network", "StreamStates"]


class StreamStates(NamedTuple):
    """What the network remembers of a stream; shapes in `Architecture.state_shapes`."""

    front: Tensor
    middle: Tensor
    ahead: Tensor
    hidden: Tensor
    cell: Tensor


class Network(LogMelModel):
    """Log-mel features to log-probabilities of characters, one output every 40 ms."""

    architecture: Architecture

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        channels, hidden = architecture.front_channels, architecture.hidden
        self.front = nn.Conv1d(MEL_BINS, channels, kernel_size=3, stride=2)
        self.middle = nn.Conv1d(channels, hidden, kernel_size=3, stride=2)
        self.ahead = nn.Conv1d(hidden, hidden, architecture.lookahead + 1, groups=hidden)
        self.recurrent = nn.ModuleList(
            nn.LSTM(hidden, hidden, batch_first=True) for _ in range(architecture.layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(architecture.layers))
        self.output = nn.Linear(hidden, architecture.vocabulary)

    def forward(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, StreamStates]:
        """Next piece of each stream: (N, T, 80), T a multiple of 4."""
        states = StreamStates(*states)
        y, front = convolve(self.front, states.front, self.normalised(x))
        y, middle = convolve(self.middle, states.middle, torch.relu(y))
        y, ahead = convolve(self.ahead, states.ahead, torch.relu(y))
        y = y.transpose(1, 2)
        hidden, cell = [], []
        for index, (lstm, norm) in enumerate(zip(self.recurrent, self.norms, strict=True)):
            before = (
                states.hidden[:, index].unsqueeze(0).contiguous(),
                states.cell[:, index].unsqueeze(0).contiguous(),
            )
            z, (h, c) = lstm(y, before)
            y = norm(y + z)
            hidden.append(h[0])
            cell.append(c[0])
        after = StreamStates(front, middle, ahead, torch.stack(hidden, 1), torch.stack(cell, 1))
        return self.output(y).log_softmax(-1), after
