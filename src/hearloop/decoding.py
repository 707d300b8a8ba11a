"""From log-probabilities to words with times and confidences, and back: how plausible a text is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from hearloop.architecture import OUTPUT_SECONDS
from hearloop.tokenizer import BLANK, Tokenizer

__all__ = [
    "LogProbs",
    "Spelling",
    "Transcript",
    "Word",
    "certainty",
    "later",
    "log_likelihood",
    "log_likelihoods",
    "plausibilities",
    "plausibility",
    "transcribe",
    "transcript",
]

LogProbs = npt.NDArray[np.float32]
"""Natural log-probabilities, shape (frames, vocabulary), a frame every 40 ms."""

IMPOSSIBLE_NATS: Final = -50.0
"""Plausibility of a text that has more characters than the recording has frames."""

_NEVER: Final = -1e30
"""Log-probability of what cannot be; finite, so that differences stay numbers."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """A recognised word; times are seconds from the beginning of the recording."""

    text: str
    start_s: float
    end_s: float
    confidence: float
    """0 (every character equally likely) to 1 (certain)."""


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """What was recognised in a recording; an empty text when nobody speaks."""

    text: str
    words: tuple[Word, ...]
    confidence: float
    """Mean confidence of the words, 0 without any."""


def transcribe(log_probs: LogProbs, tokenizer: Tokenizer) -> Transcript:
    """Best CTC path of one recording as text.

    Args:
        log_probs: (frames, vocabulary); frame 0 is about the beginning of the recording.
        tokenizer: maps ids to characters or pieces of words.
    """
    spelling = Spelling(tokenizer)
    spelling.extend(log_probs.argmax(axis=1).tolist(), certainty(log_probs).tolist())
    return transcript(spelling.words)


def transcript(words: Sequence[Word]) -> Transcript:
    """The transcript that consists of `words`."""
    confidence = float(np.mean([word.confidence for word in words])) if words else 0.0
    return Transcript(
        text=" ".join(word.text for word in words), words=tuple(words), confidence=confidence
    )


def later(word: Word, seconds: float) -> Word:
    """A word of a piece of a recording that begins so many seconds after its beginning."""
    return replace(
        word,
        start_s=round(word.start_s + seconds, 3),
        end_s=round(word.end_s + seconds, 3),
    )


def certainty(log_probs: LogProbs) -> npt.NDArray[np.float32]:
    """1 - entropy / log V of each frame of (..., V) (normalised entropy, arXiv 2212.08703)."""
    entropy = -(np.exp(log_probs) * log_probs).sum(axis=-1)
    return np.clip(1.0 - entropy / np.log(log_probs.shape[-1]), 0.0, 1.0)


class Spelling:
    """Writes the words of a CTC path that arrives frame by frame."""

    def __init__(self, tokenizer: Tokenizer, *, begins_s: float = 0.0) -> None:
        """Frame 0 of the path is about the audio from `begins_s` on."""
        self._tokenizer = tokenizer
        self._begins_s = begins_s
        self._frame = 0
        self._previous = BLANK
        self._whole: list[Word] = []
        self._text = ""
        """The whole words, a space after each: joined once, however long the utterance."""
        self._letters = ""
        self._first = self._last = 0
        self._certainty = 1.0

    @property
    def words(self) -> list[Word]:
        """The words so far; the last one may still grow."""
        return [*self._whole, self._word()] if self._letters else list(self._whole)

    @property
    def text(self) -> str:
        """The words, joined."""
        return f"{self._text}{self._letters}" if self._letters else self._text[:-1]

    @property
    def end_s(self) -> float | None:
        """Where the last word ends so far; None before the first one."""
        if self._letters:
            return round(self._begins_s + (self._last + 1) * OUTPUT_SECONDS, 3)
        return self._whole[-1].end_s if self._whole else None

    @property
    def within_word(self) -> bool:
        """Whether the last word may still grow."""
        return bool(self._letters)

    def extend(self, path: Sequence[int], certainties: Sequence[float]) -> bool:
        """Take the ids of the next frames and how certain each is. Did the words change?"""
        grown = False
        for index, certainty in zip(path, certainties, strict=True):
            if index != BLANK and self._write(index, certainty):
                grown = True
            self._previous = index
            self._frame += 1
        return grown

    def take(self) -> list[Word]:
        """The words so far; what follows is written as if they had never been there."""
        words = self.words
        self._whole, self._text, self._letters, self._certainty = [], "", "", 1.0
        return words

    def _write(self, index: int, certainty: float) -> bool:
        symbol = self._tokenizer.symbols[index - 1]
        begins = index != self._previous
        if symbol[0] == " " and begins and self._letters:
            self._whole.append(self._word())
            self._text += self._letters + " "
            self._letters, self._certainty = "", 1.0
        if symbol == " ":
            return False
        if begins:
            self._first = self._first if self._letters else self._frame
            self._letters += symbol.lstrip(" ")
        elif not self._letters:  # `take` was called amid the frames of this symbol
            return False
        self._last = self._frame
        self._certainty = min(self._certainty, certainty)
        return begins

    def _word(self) -> Word:
        return Word(
            text=self._letters,
            start_s=round(self._begins_s + self._first * OUTPUT_SECONDS, 3),
            end_s=round(self._begins_s + (self._last + 1) * OUTPUT_SECONDS, 3),
            confidence=self._certainty,
        )


def log_likelihood(log_probs: LogProbs, ids: Sequence[int]) -> float:
    """Log-probability in nats of all CTC paths that write `ids`; -inf when there is none."""
    return log_likelihoods(log_probs, [ids])[0]


def log_likelihoods(log_probs: LogProbs, texts: Sequence[Sequence[int]]) -> list[float]:
    """`log_likelihood` of each of several texts of one recording.

    The forward algorithm of Graves et al. 2006. The texts advance together, a row of states each,
    which takes a quarter of the time that they take one after the other.
    """
    states = np.full((len(texts), 2 * max(map(len, texts)) + 1), BLANK)
    for row, ids in zip(states, texts, strict=True):
        row[1 : 2 * len(ids) : 2] = ids
    emissions = log_probs[:, states].astype(np.float64)
    skip = np.full(states.shape, _NEVER)
    skip[:, 2:][(states[:, 2:] != BLANK) & (states[:, 2:] != states[:, :-2])] = 0.0
    alpha = np.full((len(texts), states.shape[1] + 2), _NEVER)  # with two before the first state
    alpha[:, 2:4] = emissions[0, :, :2]
    for emission in emissions[1:]:
        stay, step, jump = alpha[:, 2:], alpha[:, 1:-1], alpha[:, :-2] + skip
        most = np.maximum(np.maximum(stay, step), jump)
        total = np.exp(stay - most) + np.exp(step - most) + np.exp(jump - most)
        alpha[:, 2:] = most + np.log(total) + emission
    ends = [
        row[[2 * len(ids) + 1, 2 * len(ids) + 2]] for row, ids in zip(alpha, texts, strict=True)
    ]
    found = [float(np.logaddexp(*end)) for end in ends]
    return [value if value > _NEVER / 2 else -np.inf for value in found]


def plausibility(log_probs: LogProbs, ids: Sequence[int]) -> float:
    """How well a text fits what was heard, in nats per character, at most about 0.

    The log-likelihood of the text less that of the best path, over the number of characters:
    near 0 when the text was said, below -3 or so when it was not.
    """
    return plausibilities(log_probs, [ids])[0]


def plausibilities(log_probs: LogProbs, texts: Sequence[Sequence[int]]) -> list[float]:
    """`plausibility` of each of several texts."""
    if not all(texts):
        raise ValueError("An empty text has no plausibility.")
    best = float(log_probs.max(axis=1).sum())
    scores = log_likelihoods(log_probs, texts)
    return [
        max((score - best) / len(ids), IMPOSSIBLE_NATS)
        for score, ids in zip(scores, texts, strict=True)
    ]
