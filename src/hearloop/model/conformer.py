"""A streaming Conformer under CTC, with an attention decoder that can rescore what it heard.

Convolutions are causal. Attention sees its own chunk and `left` outputs before it; training draws
the chunk anew for each step (dynamic chunks, arXiv 2012.05481), so that one network serves at
several latencies. Positions are rotary (arXiv 2104.09864), counted from the beginning of what a
chunk can see: keys are cached as they were before the rotation, and an hour is like a minute.
Layer norms stand where the paper has batch norms: a stream must not depend on its neighbours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import glu, pad, scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

from hearloop.architecture import DOWNSAMPLING, ConformerArchitecture
from hearloop.features import MEL_BINS
from hearloop.model.interface import LogMelModel, convolve
from hearloop.tokenizer import BLANK

__all__ = ["Conformer"]

_WHOLE = 0.25
"""Share of the steps in which each output sees the whole utterance."""
_LARGEST_CHUNK = 3
"""Chunks of other steps are drawn up to this many times the one that is served."""
_ROTATION = 10_000.0
"""Base of the wavelengths of rotary positions."""

Cache = tuple[Tensor, Tensor, Tensor]
"""Of a layer: keys (N, K, D), values (N, K, D), and what the convolution saw (N, D, k - 1)."""


class Conformer(LogMelModel):
    """Log-mel features to log-probabilities of characters, one output every 40 ms."""

    architecture: ConformerArchitecture

    def __init__(self, architecture: ConformerArchitecture) -> None:
        super().__init__(architecture)
        hidden = architecture.hidden
        self.front = nn.Conv1d(MEL_BINS, hidden, kernel_size=3, stride=2)
        self.middle = nn.Conv1d(hidden, hidden, kernel_size=3, stride=2)
        self.blocks = nn.ModuleList(_Block(architecture) for _ in range(architecture.layers))
        self.output = nn.Linear(hidden, architecture.vocabulary)
        self.decoder = Decoder(architecture) if architecture.decoder_layers else None

    def forward(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Next chunks of each stream: (N, T, 80), T a multiple of `chunk_frames`."""
        encoded, after = self.encode_next(x, states)
        return self.classify(encoded), after

    def classify(self, encoded: Tensor) -> Tensor:
        """(N, T / 4, D) to log-probabilities (N, T / 4, vocabulary)."""
        return self.output(encoded).log_softmax(-1)

    def encode_next(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As `forward`, before the last layer: (N, T / 4, D)."""
        sizes = self.architecture
        front, middle, keys, values, convolved, seen = states
        y, front, middle = self._subsampled(x, front, middle)
        time = y.shape[1]
        allowed = _allowed(time, sizes.left, sizes.chunk, sizes.left, y.device)
        reach = torch.arange(-sizes.left, time, device=y.device)
        allowed = allowed & (reach >= -seen)[:, None, None]
        caches = [(keys[:, i], values[:, i], convolved[:, i]) for i in range(sizes.layers)]
        y, after = self._encoded(y, allowed, caches)
        kept = [(k[:, time:], v[:, time:], c) for k, v, c in after]
        keys, values, convolved = (torch.stack(each, 1) for each in zip(*kept, strict=True))
        return y, (front, middle, keys, values, convolved, (seen + time).clamp(max=sizes.left))

    def encode(self, x: Tensor, allowed: Tensor) -> Tensor:
        """(N, T, 80) whole utterances to (N, T / 4, D); `allowed` (…, T / 4, T / 4)."""
        sizes, batch = self.architecture, len(x)
        y, _, _ = self._subsampled(
            x, x.new_zeros(batch, MEL_BINS, 1), x.new_zeros(batch, sizes.hidden, 1)
        )
        nothing = y.new_zeros(batch, 0, sizes.hidden)
        convolved = y.new_zeros(batch, sizes.hidden, sizes.kernel - 1)
        caches = [(nothing, nothing, convolved)] * sizes.layers
        return self._encoded(y, allowed, caches)[0]

    def _subsampled(
        self, x: Tensor, front: Tensor, middle: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        y, front = convolve(self.front, front, self.normalised(x))
        y, middle = convolve(self.middle, middle, torch.relu(y))
        return torch.relu(y).transpose(1, 2), front, middle

    def _encoded(
        self, y: Tensor, allowed: Tensor, caches: Sequence[Cache]
    ) -> tuple[Tensor, list[Cache]]:
        rotation = _rotation(allowed.shape[-1], y.shape[2] // self.architecture.heads, y.device)
        after = []
        for block, cache in zip(self.blocks, caches, strict=True):
            y, kept = block(y, allowed, rotation, cache)
            after.append(kept)
        return y, after

    def posteriors(self, x: Tensor, outputs: Tensor) -> Tensor:
        """Log-probabilities (N, T / 4, vocabulary) of whole utterances, as they are served."""
        return self.classify(self._served(x))[:, : x.shape[1] // DOWNSAMPLING]

    def _served(self, x: Tensor) -> Tensor:
        """Encoded in chunks of the served size, the last one filled up with silence."""
        sizes = self.architecture
        x = pad(x, (0, 0, 0, -x.shape[1] % sizes.chunk_frames), value=sizes.silence)
        time = x.shape[1] // DOWNSAMPLING
        return self.encode(x, _allowed(time, 0, sizes.chunk, sizes.left, x.device))

    def loss(self, x: Tensor, outputs: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """CTC, and the decoder's cross entropy where there is one, in nats."""
        encoded = self.encode(x, self._drawn(x.shape[1] // DOWNSAMPLING, outputs.to(x.device)))
        ctc = self.ctc(self.classify(encoded), outputs, targets, target_lengths)
        if self.decoder is None:
            return ctc
        share = self.architecture.attention_share
        texts = targets.split(target_lengths.tolist())
        attention = -self.decoder.scores(encoded, texts, outputs.to(x.device)).sum()
        return (1 - share) * ctc + share * attention

    def _drawn(self, time: int, outputs: Tensor) -> Tensor:
        """What each output may see in this step."""
        sizes, device = self.architecture, outputs.device
        if torch.rand(()) < _WHOLE:
            within = torch.arange(time, device=device) < outputs.clamp(min=1)[:, None]
            return within[:, None, None]
        chunk = int(torch.randint(1, _LARGEST_CHUNK * sizes.chunk + 1, ()))
        return _allowed(time, 0, chunk, sizes.left, device)

    def compile_parts(self, backend: str = "inductor") -> None:
        """Compile each block: all are alike, so that it is done once, and for any length."""
        for block in self.blocks:
            block.compile(backend=backend, dynamic=True)


def _allowed(time: int, cached: int, chunk: int, left: int, device: torch.device) -> Tensor:
    """Which of `cached + time` keys each of `time` outputs attends to: (time, cached + time)."""
    begin = torch.arange(time, device=device)[:, None] // chunk * chunk
    key = torch.arange(-cached, time, device=device)
    return (key < begin + chunk) & (key >= begin - left)


def _rotation(length: int, width: int, device: torch.device) -> Tensor:
    """Cosines and sines (2, length, width / 2) of the positions 0, 1, …"""
    speed = _ROTATION ** (-torch.arange(0, width, 2, device=device) / width)
    angles = torch.arange(length, device=device)[:, None] * speed
    return torch.stack([angles.cos(), angles.sin()])


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn (N, heads, T, width) by the last T positions."""
    cos, sin = rotation[:, rotation.shape[1] - x.shape[2] :].to(x.dtype)
    one, other = x.chunk(2, dim=-1)
    return torch.cat([one * cos - other * sin, one * sin + other * cos], dim=-1)


class _Attention(nn.Module):
    """Multi-head attention; with a rotation where queries and keys are of one sequence."""

    def __init__(self, sizes: ConformerArchitecture) -> None:
        super().__init__()
        self.heads, self.dropout = sizes.heads, sizes.dropout
        self.query = nn.Linear(sizes.hidden, sizes.hidden)
        self.key = nn.Linear(sizes.hidden, sizes.hidden)
        self.value = nn.Linear(sizes.hidden, sizes.hidden)
        self.output = nn.Linear(sizes.hidden, sizes.hidden)

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, allowed: Tensor, rotation: Tensor | None
    ) -> Tensor:
        q, k, v = (self._split(each) for each in (self.query(x), keys, values))
        if rotation is not None:
            q, k = _rotate(q, rotation), _rotate(k, rotation)
        dropout = self.dropout if self.training else 0.0
        y = scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
        return self.output(y.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class _FeedForward(nn.Sequential):
    def __init__(self, sizes: ConformerArchitecture) -> None:
        inner = sizes.hidden * sizes.feed_forward
        super().__init__(
            nn.LayerNorm(sizes.hidden),
            nn.Linear(sizes.hidden, inner),
            nn.SiLU(),
            nn.Dropout(sizes.dropout),
            nn.Linear(inner, sizes.hidden),
            nn.Dropout(sizes.dropout),
        )


class _Block(nn.Module):
    """Half a feed-forward, attention, convolution, the other half."""

    def __init__(self, sizes: ConformerArchitecture) -> None:
        super().__init__()
        hidden = sizes.hidden
        self.before, self.after = _FeedForward(sizes), _FeedForward(sizes)
        self.attention_norm = nn.LayerNorm(hidden)
        self.attention = _Attention(sizes)
        self.convolution_norm = nn.LayerNorm(hidden)
        self.gates = nn.Linear(hidden, 2 * hidden)
        self.depthwise = nn.Conv1d(hidden, hidden, sizes.kernel, groups=hidden)
        self.inner_norm = nn.LayerNorm(hidden)
        self.mixed = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self, x: Tensor, allowed: Tensor, rotation: Tensor, cache: Cache
    ) -> tuple[Tensor, Cache]:
        keys, values, convolved = cache
        x = x + 0.5 * self.before(x)
        y = self.attention_norm(x)
        keys = torch.cat([keys, self.attention.key(y)], dim=1)
        values = torch.cat([values, self.attention.value(y)], dim=1)
        x = x + self.dropout(self.attention(y, keys, values, allowed, rotation))
        y = glu(self.gates(self.convolution_norm(x))).transpose(1, 2)
        y, convolved = convolve(self.depthwise, convolved, y)
        y = nn.functional.silu(self.inner_norm(y.transpose(1, 2)))
        x = x + self.dropout(self.mixed(y))
        x = x + 0.5 * self.after(x)
        return self.norm(x), (keys, values, convolved)


class _DecoderBlock(nn.Module):
    """Attention to the characters so far, attention to what was heard, a feed-forward."""

    def __init__(self, sizes: ConformerArchitecture) -> None:
        super().__init__()
        self.own_norm, self.heard_norm = nn.LayerNorm(sizes.hidden), nn.LayerNorm(sizes.hidden)
        self.own, self.heard = _Attention(sizes), _Attention(sizes)
        self.feed_forward = _FeedForward(sizes)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self, x: Tensor, encoded: Tensor, earlier: Tensor, within: Tensor, rotation: Tensor
    ) -> Tensor:
        y = self.own_norm(x)
        keys, values = self.own.key(y), self.own.value(y)
        x = x + self.dropout(self.own(y, keys, values, earlier, rotation))
        keys, values = self.heard.key(encoded), self.heard.value(encoded)
        x = x + self.dropout(self.heard(self.heard_norm(x), keys, values, within, None))
        return x + self.feed_forward(x)


class Decoder(nn.Module):
    """Characters from those before them and from what was heard (arXiv 1508.01211).

    The blank, of which it has no other use, begins and ends a text.
    """

    def __init__(self, sizes: ConformerArchitecture) -> None:
        super().__init__()
        self.width = sizes.hidden // sizes.heads
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.hidden)
        self.blocks = nn.ModuleList(_DecoderBlock(sizes) for _ in range(sizes.decoder_layers))
        self.norm = nn.LayerNorm(sizes.hidden)
        self.output = nn.Linear(sizes.hidden, sizes.vocabulary)

    def forward(self, encoded: Tensor, begun: Tensor, within: Tensor) -> Tensor:
        """Log-probabilities (N, L, vocabulary) of what follows each of (N, L) characters.

        Args:
            encoded: (N, T, D).
            begun: ids, the first one the blank.
            within: (N, T), True where the output belongs to the utterance.
        """
        length = begun.shape[1]
        place = torch.arange(length, device=begun.device)
        earlier = place <= place[:, None]
        rotation = _rotation(length, self.width, begun.device)
        x = self.embedding(begun)
        for block in self.blocks:
            x = block(x, encoded, earlier, within[:, None, None], rotation)
        return self.output(self.norm(x)).log_softmax(-1)

    def scores(self, encoded: Tensor, texts: Sequence[Tensor], outputs: Tensor) -> Tensor:
        """Log-probability (N,) of each text, given (N, T, D) of which (N,) `outputs` count."""
        end = encoded.new_full((1,), BLANK, dtype=torch.long)
        begun = pad_sequence([torch.cat([end, text]) for text in texts], True, -1)
        ended = pad_sequence([torch.cat([text, end]) for text in texts], True, -1)
        within = torch.arange(encoded.shape[1], device=encoded.device)
        within = within < outputs.clamp(min=1)[:, None]
        log_probs = self(encoded, begun.clamp(min=0), within)
        chosen = log_probs.gather(2, ended.clamp(min=0)[:, :, None])[:, :, 0]
        return (chosen * (ended >= 0)).sum(1)
