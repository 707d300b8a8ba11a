"""The shape of a recogniser, known without torch: the server needs it to pad and to tell time."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np

from hearloop.families import ConformerCtc, Family, RnnCtc, Wav2Vec2Ctc
from hearloop.features import (
    CONFIGURATION,
    FLOOR,
    FRAME_SECONDS,
    HOP,
    MEL_BINS,
    SAMPLE_RATE,
    Matrix,
    Samples,
    log_mel,
)

__all__ = [
    "DOWNSAMPLING",
    "OUTPUT_SECONDS",
    "STATES",
    "Architecture",
    "ConformerArchitecture",
    "Shape",
    "Wav2Vec2Architecture",
    "described",
    "sample_rows",
    "sized",
]

DOWNSAMPLING: Final = 4
"""Feature frames for each output: two convolutions of stride 2."""
OUTPUT_SECONDS: Final = DOWNSAMPLING * FRAME_SECONDS
"""Distance between outputs, 40 ms. Above 17 characters a second letters get lost, since CTC also
needs a blank between the two of `tt`. Two outputs a step cured that, but wrote letters twice
(9.8 % WER instead of 6.5)."""
STATES: Final = ("front", "middle", "ahead", "hidden", "cell")
"""Names of the default network's states, in the order of the graph's inputs and outputs."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What recognisers of all families have in common."""

    vocabulary: int
    """Symbols, the CTC blank included."""
    kind: str
    lookahead: int
    """Outputs at the beginning that are about nothing and are dropped."""
    tail: int
    """Outputs of silence after the last one."""

    @property
    def streaming(self) -> bool:
        """Whether it recognises speech chunk by chunk; others hear whole utterances only."""
        return True

    @property
    def bins(self) -> int:
        """Numbers in a feature frame of 10 ms."""
        return MEL_BINS

    @property
    def silence(self) -> float:
        """Each of these numbers in digital silence."""
        return FLOOR

    @property
    def chunk_frames(self) -> int:
        """Feature frames of a step of a live stream: 160 ms unless the family has its own."""
        return 4 * DOWNSAMPLING

    @property
    def attachments(self) -> tuple[str, ...]:
        """Files of a bundle beyond those that each family has."""
        return ()

    @property
    def feature_configuration(self) -> Mapping[str, Any]:
        """How feature frames are made: a bundle with others is refused."""
        return CONFIGURATION

    def features(self, samples: Samples) -> Matrix:
        """What the network takes of (n,) samples at 16 kHz: (round(n / 160), bins)."""
        return log_mel(samples)

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
        return {}


@dataclass(frozen=True, kw_only=True)
class Architecture(RnnCtc, Shape):
    """A recogniser of the default family."""

    def state_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Shape of each state for `batch` streams; a new stream starts with zeros."""
        return {
            "front": (batch, MEL_BINS, 1),
            "middle": (batch, self.front_channels, 1),
            "ahead": (batch, self.hidden, self.lookahead),
            "hidden": (batch, self.layers, self.hidden),
            "cell": (batch, self.layers, self.hidden),
        }


@dataclass(frozen=True, kw_only=True)
class ConformerArchitecture(ConformerCtc, Shape):
    """A Conformer."""

    @property
    def chunk_frames(self) -> int:
        """Feature frames that attend to each other."""
        return self.chunk * DOWNSAMPLING

    @property
    def attachments(self) -> tuple[str, ...]:
        """The attention decoder, if there is one."""
        return ("decoder.onnx",) if self.decoder_layers else ()

    def state_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Shape of each state for `batch` streams; a new stream starts with zeros.

        `seen` counts the outputs so far, up to `left`: older keys and values are not there yet.
        """
        return {
            "front": (batch, MEL_BINS, 1),
            "middle": (batch, self.hidden, 1),
            "keys": (batch, self.layers, self.left, self.hidden),
            "values": (batch, self.layers, self.left, self.hidden),
            "convolved": (batch, self.layers, self.hidden, self.kernel - 1),
            "seen": (batch, 1),
        }


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2Architecture(Wav2Vec2Ctc, Shape):
    """A Wav2Vec2 model; a feature frame is the 160 samples of its 10 ms."""

    encoder: Mapping[str, Any]
    """Arguments of `torchaudio.models.wav2vec2_model`, but for dropouts and the output layer."""
    normalised: bool
    """Whether each recording is brought to mean 0 and variance 1, as in the pretraining."""

    @property
    def streaming(self) -> bool:
        """It attends to whole utterances."""
        return False

    @property
    def bins(self) -> int:
        """Samples in 10 ms."""
        return HOP

    @property
    def silence(self) -> float:
        """A sample of it."""
        return 0.0

    @property
    def feature_configuration(self) -> Mapping[str, Any]:
        """No features but the samples."""
        return {"kind": "samples", "sample_rate": SAMPLE_RATE}

    def features(self, samples: Samples) -> Matrix:
        """The (n,) samples themselves: (round(n / 160), 160)."""
        return sample_rows(samples)


def sample_rows(samples: Samples) -> Matrix:
    """(n,) samples in rows of 10 ms, as many as they have feature frames."""
    rows = (len(samples) + HOP // 2) // HOP
    whole = np.zeros(rows * HOP, np.float32)
    whole[: len(samples)] = samples[: len(whole)]
    return whole.reshape(-1, HOP)


_CLASSES: Final[Mapping[str, type[Shape]]] = {
    "rnn_ctc": Architecture,
    "conformer_ctc": ConformerArchitecture,
    "wav2vec2_ctc": Wav2Vec2Architecture,
    "conv-lstm-ctc": Architecture,  # what bundles called it while it was the only one
}


def described(family: str, sizes: Mapping[str, Any]) -> Shape:
    """Read what a bundle says about itself. Raises KeyError or TypeError for what is unknown."""
    return _CLASSES[family](**sizes)


def sized(family: Family, **given: Any) -> Shape:
    """A family's sizes with what a recipe cannot know: the vocabulary, say."""
    chosen = {field.name: getattr(family, field.name) for field in fields(family)}
    return _CLASSES[family.kind](**chosen, **given)
