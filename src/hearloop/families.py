"""The families of recognisers that a recipe chooses from, and the sizes of each.

Frozen dataclasses that travel as JSON. This module loads nothing, so that a pipeline compiles in
a second; `hearloop.architecture` says what follows from the sizes, `hearloop.model` computes.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

__all__ = ["ConformerCtc", "Family", "RnnCtc", "Wav2Vec2Ctc"]


@dataclass(frozen=True, kw_only=True)
class RnnCtc:
    """Convolutions and LSTMs: learns from an hour of speech on two cores. 2.7 million weights."""

    kind: Literal["rnn_ctc"] = "rnn_ctc"
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


@dataclass(frozen=True, kw_only=True)
class ConformerCtc:
    """A streaming Conformer (arXiv 2005.08100, 2012.05481), for GPUs and hundreds of hours.

    The defaults have 25 million weights; hidden 512, layers 18 and heads 8 have 110 million.
    """

    kind: Literal["conformer_ctc"] = "conformer_ctc"
    hidden: int = 256
    layers: int = 16
    heads: int = 4
    feed_forward: int = 4
    """Width of the feed-forward modules, in units of `hidden`."""
    kernel: int = 15
    """Outputs that a convolution sees: this one and those before."""
    chunk: int = 8
    """Outputs that are answered together when serving: 320 ms. Training draws others too."""
    left: int = 64
    """Outputs before the chunk that it attends to: 2.6 s."""
    dropout: float = 0.1
    decoder_layers: int = 0
    """Of the attention decoder that chooses the final text of each utterance among those of the
    beam, in streams as in recordings; 0 leaves it out."""
    attention_share: float = 0.3
    """Weight of the attention decoder, in the loss and when rescoring; CTC has the rest."""
    lookahead: Literal[0] = 0
    tail: int = 4
    """Outputs of digital silence after the last one, because CTC may write a character late."""


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2Ctc:
    """torchaudio's Wav2Vec2, pretrained elsewhere, on raw samples; hears whole utterances only."""

    kind: Literal["wav2vec2_ctc"] = "wav2vec2_ctc"
    source: str
    """Where the pretrained weights are: a bundle's name in `torchaudio.pipelines`, or a Hugging
    Face folder (config.json and model.safetensors or pytorch_model.bin), local or `s3://`."""
    sha256: str | None = None
    """Of the file of weights: another file is refused. None takes what is there."""
    frozen_steps: int = 0
    """First steps in which only the new output layer learns."""
    frozen_extractor: bool = True
    """Whether the convolutions on the samples keep their pretrained weights throughout."""
    dropout: float = 0.1
    lookahead: Literal[0] = 0
    tail: int = 2
    """Outputs of silence after the last one."""


Family = Annotated[RnnCtc | ConformerCtc | Wav2Vec2Ctc, Field(discriminator="kind")]
