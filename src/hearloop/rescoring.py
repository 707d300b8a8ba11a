"""Choose among the texts of a beam by an attention decoder, once an utterance is over.

CTC takes each output for itself; the decoder knows what was written before. Their log-likelihoods
are added, weighted as in training (arXiv 2012.05481).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from hearloop.architecture import ConformerArchitecture
from hearloop.beam import search
from hearloop.decoding import LogProbs, Word
from hearloop.graph import session
from hearloop.hotwords import Hotwords
from hearloop.tokenizer import BLANK, Tokenizer

__all__ = ["Encoded", "Rescorer"]

Encoded = npt.NDArray[np.float32]
"""What the encoder made of the speech: (T, D), a row every 40 ms."""

_PADDING: Final = -1


class Rescorer:
    """An exported attention decoder. Safe to use from several threads at once."""

    def __init__(
        self, path: Path, architecture: ConformerArchitecture, tokenizer: Tokenizer
    ) -> None:
        """Load the graph at `path`, whose bytes were verified before."""
        self._session = session(path)
        self._share = architecture.attention_share
        self._tokenizer = tokenizer

    def words(
        self, log_probs: LogProbs, encoded: Encoded, hotwords: Hotwords, *, begins_s: float = 0.0
    ) -> list[Word]:
        """The most likely words of (T, V) and (T, D), the first of which are about `begins_s`."""
        found = search(log_probs, self._tokenizer, hotwords, begins_s=begins_s)
        return self.best(found.alternatives(), encoded)

    def best(
        self, alternatives: Sequence[tuple[float, list[Word]]], encoded: Encoded
    ) -> list[Word]:
        """The most likely words; each alternative comes with CTC's nats. `encoded`: (T, D)."""
        texts = [" ".join(word.text for word in words) for _, words in alternatives]
        attention = self.scores([self._tokenizer.encode(text) for text in texts], encoded)
        nats = [
            (1 - self._share) * ctc + self._share * score
            for (ctc, _), score in zip(alternatives, attention, strict=True)
        ]
        return alternatives[int(np.argmax(nats))][1]

    def scores(self, texts: Sequence[Sequence[int]], encoded: Encoded) -> list[float]:
        """Log-likelihood of each text, given what was heard: (T, D)."""
        ended = np.full((len(texts), max(map(len, texts)) + 1), _PADDING)
        begun = np.full(ended.shape, BLANK)
        for row, ids in enumerate(texts):
            begun[row, 1 : len(ids) + 1] = ids
            ended[row, : len(ids)] = ids
            ended[row, len(ids)] = BLANK
        heard = np.repeat(encoded[None], len(texts), axis=0)
        (log_probs,) = self._session.run(None, {"encoded": heard, "begun": begun})
        chosen = np.take_along_axis(log_probs, ended.clip(min=0)[:, :, None], axis=2)[:, :, 0]
        return [float(nats) for nats in (chosen * (ended != _PADDING)).sum(axis=1)]
