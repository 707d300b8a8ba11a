"""From what the graph answers for one stream to words and ends of utterances."""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Final, Protocol

import numpy as np

from hearloop.architecture import OUTPUT_SECONDS
from hearloop.decoding import LogProbs, Word, transcript
from hearloop.rescoring import Encoded
from hearloop.streaming import events
from hearloop.streaming.chunks import Chunk
from hearloop.streaming.events import Event
from hearloop.streaming.options import StreamOptions

__all__ = ["Search", "Utterances"]

_OVERDUE_S: Final = 10.0
"""An utterance without a gap between words is cut within one, this long after the longest."""


class Search(Protocol):
    """Finds the words of one utterance in its frames, which arrive a few at a time."""

    revised: int
    """Words that were replaced by others after they had been found."""

    @property
    def words(self) -> list[Word]:
        """The words so far; the last one may still grow."""

    @property
    def text(self) -> str:
        """The words, joined."""

    @property
    def end_s(self) -> float | None:
        """Where the last word ends so far; None before the first one."""

    @property
    def within_word(self) -> bool:
        """Whether the last word may still grow."""

    def extend(
        self, log_probs: LogProbs, path: Sequence[int], certainties: Sequence[float]
    ) -> bool:
        """Take the next frames: (T, V), their best ids and certainties. Did words change?"""

    def take(self) -> list[Word]:
        """The words so far; the search goes on with what follows them."""


Rescore = Callable[[LogProbs, Encoded, float], list[Word]]
"""The words of an utterance that is over: (T, V), (T, D) and the second where it begins."""


class Utterances:
    """The utterances of one stream, one after the other."""

    def __init__(
        self,
        options: StreamOptions,
        lookahead: int,
        search: Callable[[float], Search],
        rescore: Rescore | None = None,
    ) -> None:
        """`search` begins one whose first frame is about the given second of the stream."""
        self._rescore = rescore
        self._heard: list[tuple[LogProbs, Encoded]] = []
        """What is rescored: the outputs since `_heard_from_s`."""
        self._heard_from_s = 0.0
        self._options = options
        self._lookahead = lookahead
        self._new_search = search
        self._search: Search | None = None
        self._number = 0
        self._seen = 0
        self._begin_s = 0.0
        self._started = False

    def answer(
        self,
        chunk: Chunk,
        log_probs: LogProbs,
        path: Sequence[int],
        certainties: Sequence[float],
        encoded: Encoded | None = None,
    ) -> bool:
        """Take the outputs (T, V) of a chunk. Did the words change?"""
        if chunk.first:
            self._heard, self._heard_from_s = [], chunk.begin_s
            self._search = self._new_search(chunk.begin_s)
            self._seen, self._begin_s = 0, chunk.begin_s
        assert self._search
        span = slice(max(0, self._lookahead - self._seen), chunk.outputs)
        self._seen += chunk.outputs
        if self._rescore and encoded is not None:
            self._heard.append((log_probs[span], encoded[span]))
        return self._search.extend(log_probs[span], path[span], certainties[span])

    def partial(self, heard_s: float) -> list[Event]:
        """The words so far, after they have changed."""
        assert self._search
        words = self._search.words
        found: list[Event] = []
        if not self._started and words:
            self._started = True
            if self._options.endpointing:
                found.append(events.SpeechStarted(at_s=words[0].start_s))
        if self._options.partials:
            partial = events.Partial(
                utterance=self._number,
                text=self._search.text,
                words=tuple(words),
                heard_s=heard_s,
            )
            found.append(partial)
        return found

    def over(self, heard_s: float, voice_s: float) -> bool:
        """Whether the speaker has stopped, or nobody ever spoke."""
        rule = self._options.endpointing
        if rule is None or self._search is None:
            return False
        spoken_s = self._search.end_s
        without_character = heard_s - (self._begin_s if spoken_s is None else spoken_s)
        if without_character >= rule.blank_s:
            return True
        return min(without_character, heard_s - voice_s) >= rule.silence_s

    def too_long(self, heard_s: float) -> bool:
        """Whether the utterance should be cut here, although somebody goes on speaking."""
        rule = self._options.endpointing
        if rule is None or self._search is None or not self._started:
            return False
        longer = heard_s - self._begin_s - rule.longest_s
        return longer >= (_OVERDUE_S if self._search.within_word else 0.0)

    def cut(self, end_s: float, *, empty: bool = False) -> list[Event]:
        """End the utterance; without words there is none, unless an `empty` one is wanted."""
        words = self._search.take() if self._search else []
        revised = self._search.revised if self._search else 0
        if words and self._rescore:
            words, revised = self._rescored(words, self._rescore, revised)
        if not words and not empty:
            self._begin_s = end_s
            return []
        final = events.Final(
            utterance=self._number,
            transcript=transcript(words),
            start_s=self._begin_s,
            end_s=end_s,
            revised_words=revised,
        )
        self._number += 1
        self._begin_s, self._started = end_s, False
        return [final]

    def _rescored(self, told: list[Word], rescore: Rescore, revised: int) -> tuple[list[Word], int]:
        """The words that the decoder prefers, and how many were told otherwise until now."""
        log_probs, encoded = (np.concatenate(each) for each in zip(*self._heard, strict=True))
        words = rescore(log_probs, encoded, self._heard_from_s)
        self._heard = []
        self._heard_from_s += len(log_probs) * OUTPUT_SECONDS
        pairs = zip_longest((one.text for one in told), (one.text for one in words))
        return words, revised + sum(before != now for before, now in pairs if before)

    def rest(self) -> None:
        """Nobody speaks: the next utterance begins anew."""
        self._search = None
