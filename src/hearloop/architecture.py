"""The shape of the recogniser, known without torch: the server needs it to pad and to tell time."""

from dataclasses import dataclass
from typing import Final

from hearloop.features import FRAME_SECONDS, MEL_BINS

__all__ = ["DOWNSAMPLING", "OUTPUT_SECONDS", "STATES", "Architecture"]

DOWNSAMPLING: Final = 4
"""Feature frames for each output: two convolutions of stride 2."""
OUTPUT_SECONDS: Final = DOWNSAMPLING * FRAME_SECONDS
"""Distance between outputs, 40 ms. Above 17 characters a second letters get lost, since CTC also
needs a blank between the two of `tt`. Two outputs a step cured that, but wrote letters twice
(9.8 % WER instead of 6.5)."""
STATES: Final = ("front", "middle", "ahead", "hidden", "cell")
"""Names of the network's states, in the order of the graph's inputs and outputs."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of a recogniser; the defaults have 2.7 million weights."""

    vocabulary: int
    """Symbols, the CTC blank included."""
    front_channels: int = 192
    """Channels after the first convolution; the second one brings them to `hidden`."""
    hidden: int = 320
    """Width of the LSTMs."""
    layers: int = 3
    lookahead: int = 4
    """Outputs that the network hears beyond the one it writes: 160 ms. As many outputs at the
    beginning of a stream are about nothing and are dropped."""
    tail: int = 6
    """Outputs of digital silence after the last one: the look-ahead, and two more because CTC may
    write a character late. Training and serving pad alike; no last word is lost."""

    @property
    def tail_frames(self) -> int:
        """Feature frames of digital silence to append, besides what fills the last output."""
        return self.tail * DOWNSAMPLING

    def padded_frames(self, frames: int) -> int:
        """Length of an utterance of `frames` feature frames with its tail, a multiple of 4."""
        return -(-frames // DOWNSAMPLING) * DOWNSAMPLING + self.tail_frames

    def outputs(self, frames: int) -> slice:
        """Which outputs are about an utterance of `frames` feature frames and its tail."""
        return slice(self.lookahead, self.padded_frames(frames) // DOWNSAMPLING)

    def state_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Shape of each state for `batch` streams; a new stream starts with zeros."""
        return {
            "front": (batch, MEL_BINS, 1),
            "middle": (batch, self.front_channels, 1),
            "ahead": (batch, self.hidden, self.lookahead),
            "hidden": (batch, self.layers, self.hidden),
            "cell": (batch, self.layers, self.hidden),
        }
