"""The streaming recogniser: a convolutional front end and LSTMs under CTC.

Everything is causal: a frame never depends on later ones, so that live and offline recognition
are the same computation cut into different pieces. The future that the network needs comes from
answering late: the look-ahead convolution sees 160 ms beyond the frame whose character it writes,
and training and serving alike pad the end with digital silence (`Architecture.tail`).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hearloop.architecture import Architecture
from hearloop.features import MEL_BINS

__all__ = ["Network", "StreamStates"]


class StreamStates(NamedTuple):
    """What the network remembers of a stream; shapes in `Architecture.state_shapes`."""

    front: Tensor
    middle: Tensor
    ahead: Tensor
    hidden: Tensor
    cell: Tensor


class Network(nn.Module):
    """Log-mel features to log-probabilities of characters, one output every 40 ms."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        channels, hidden = architecture.front_channels, architecture.hidden
        self.register_buffer("mean", torch.zeros(MEL_BINS))
        self.register_buffer("deviation", torch.ones(MEL_BINS))
        self.front = nn.Conv1d(MEL_BINS, channels, kernel_size=3, stride=2)
        self.middle = nn.Conv1d(channels, hidden, kernel_size=3, stride=2)
        self.ahead = nn.Conv1d(hidden, hidden, architecture.lookahead + 1, groups=hidden)
        self.recurrent = nn.ModuleList(
            nn.LSTM(hidden, hidden, batch_first=True) for _ in range(architecture.layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(architecture.layers))
        self.output = nn.Linear(hidden, architecture.vocabulary)

    def initial_states(self, batch: int) -> StreamStates:
        """States of `batch` new streams."""
        shapes = self.architecture.state_shapes(batch)
        return StreamStates(**{name: torch.zeros(shape) for name, shape in shapes.items()})

    def forward(self, x: Tensor, states: StreamStates) -> tuple[Tensor, StreamStates]:
        """Next piece of each stream.

        Args:
            x: log-mel features (N, T, 80); T a multiple of 4.
            states: what the pieces before left behind.

        Returns:
            log-probabilities (N, T / 4, vocabulary) and the states for the next piece.
        """
        y = ((x - self.mean) / self.deviation).transpose(1, 2)
        y, front = _convolve(self.front, states.front, y)
        y, middle = _convolve(self.middle, states.middle, torch.relu(y))
        y, ahead = _convolve(self.ahead, states.ahead, torch.relu(y))
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


def _convolve(convolution: nn.Conv1d, before: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Causal convolution of (N, C, T); `before` are the frames that came last, (N, C, k - s)."""
    x = torch.cat([before, x], dim=2)
    return convolution(x), x[:, :, x.shape[2] - before.shape[2] :]
