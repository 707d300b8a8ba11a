"""From log-probabilities to words with times and confidences, and back: how plausible a text is."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from hearloop.architecture import OUTPUT_SECONDS
from hearloop.tokenizer import BLANK, Tokenizer

__all__ = ["Transcript", "Word", "log_likelihood", "plausibility", "transcribe"]

LogProbs = npt.NDArray[np.float32]
"""Natural log-probabilities, shape (frames, vocabulary), a frame every 40 ms."""

IMPOSSIBLE_NATS: Final = -50.0
"""Plausibility of a text that has more characters than the recording has frames."""


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
        tokenizer: maps ids to characters.
    """
    path = log_probs.argmax(axis=1)
    changed = np.diff(path, prepend=BLANK) != 0
    frames = np.flatnonzero(changed & (path != BLANK))
    certainty = _certainty(log_probs)
    text = tokenizer.decode(path[frames].tolist())
    last = _last_frames(path, frames)
    words = []
    for first, end in _word_spans(text):
        span = slice(frames[first], last[end - 1] + 1)
        spoken = certainty[span][path[span] != BLANK]
        words.append(
            Word(
                text=text[first:end],
                start_s=round(span.start * OUTPUT_SECONDS, 3),
                end_s=round(span.stop * OUTPUT_SECONDS, 3),
                confidence=float(spoken.min()),
            )
        )
    confidence = float(np.mean([word.confidence for word in words])) if words else 0.0
    return Transcript(
        text=" ".join(word.text for word in words), words=tuple(words), confidence=confidence
    )


def _certainty(log_probs: LogProbs) -> npt.NDArray[np.float32]:
    """1 - entropy / log V of each frame (normalised entropy, arXiv 2212.08703)."""
    entropy = -(np.exp(log_probs) * log_probs).sum(axis=1)
    return np.clip(1.0 - entropy / np.log(log_probs.shape[1]), 0.0, 1.0)


def _last_frames(path: npt.NDArray[np.intp], frames: npt.NDArray[np.intp]) -> list[int]:
    """Last frame of the run of equal ids that begins at each of `frames`."""
    ends = []
    for first, following in pairwise([*frames.tolist(), len(path)]):
        run = path[first:following] == path[first]
        ends.append(first + (int(run.argmin()) if not run.all() else len(run)) - 1)
    return ends


def _word_spans(text: str) -> list[tuple[int, int]]:
    """First and one past the last character of each word of `text`."""
    spans, start = [], 0
    for word in text.split(" "):
        if word:
            spans.append((start, start + len(word)))
        start += len(word) + 1
    return spans


def log_likelihood(log_probs: LogProbs, ids: Sequence[int]) -> float:
    """Log-probability in nats of all CTC paths that write `ids`; -inf when there is none.

    The forward algorithm of Graves et al. 2006, a row of states at a time.
    """
    states = np.full(2 * len(ids) + 1, BLANK)
    states[1::2] = ids
    emissions = log_probs[:, states].astype(np.float64)
    skip = np.zeros(len(states), bool)
    skip[3::2] = states[3::2] != states[1:-2:2]
    alpha = np.full(len(states), -np.inf)
    alpha[:2] = emissions[0, :2]
    for emission in emissions[1:]:
        stepped = np.logaddexp(alpha[1:], alpha[:-1])
        jumped = np.where(skip[2:], alpha[:-2], -np.inf)
        alpha = np.concatenate([alpha[:1], stepped])
        alpha[2:] = np.logaddexp(alpha[2:], jumped)
        alpha += emission
    return float(np.logaddexp.reduce(alpha[-2:]))


def plausibility(log_probs: LogProbs, ids: Sequence[int]) -> float:
    """How well a text fits what was heard, in nats per character, at most about 0.

    The log-likelihood of the text less that of the best path, over the number of characters:
    near 0 when the text was said, below -3 or so when it was not.
    """
    if not ids:
        raise ValueError("An empty text has no plausibility.")
    best = float(log_probs.max(axis=1).sum())
    score = (log_likelihood(log_probs, ids) - best) / len(ids)
    return max(score, IMPOSSIBLE_NATS)
