"""Utterances of a live stream for networks that hear them only as a whole: finals, no partials.

An utterance ends where the voice does, since there are no characters to go by; only then the
network runs. The engine's other streams wait for it: such a network is for files first.
"""

from typing import Final

import numpy as np

from hearloop.decoding import Transcript, later, transcript
from hearloop.features import Matrix
from hearloop.recogniser import Recogniser
from hearloop.streaming import events
from hearloop.streaming.chunks import Chunk
from hearloop.streaming.events import Event
from hearloop.streaming.options import StreamOptions

__all__ = ["WholeUtterances"]

_LONGEST_S: Final = 60.0
"""Where the caller says where utterances end and does not: attention takes the square of this."""


class WholeUtterances:
    """The utterances of one stream, one after the other."""

    def __init__(self, options: StreamOptions, recogniser: Recogniser) -> None:
        self._options = options
        self._recogniser = recogniser
        self._kept: list[Matrix] = []
        self._number = 0
        self._begin_s = 0.0

    def keep(self, chunk: Chunk) -> None:
        """Take the next chunk."""
        if chunk.first:
            self._begin_s = chunk.begin_s
        self._kept.append(chunk.rows)

    def over(self, heard_s: float, voice_s: float) -> bool:
        """Whether the speaker has stopped."""
        rule = self._options.endpointing
        if rule is None or not self._kept:
            return False
        return heard_s - max(voice_s, self._begin_s) >= rule.silence_s

    def too_long(self, heard_s: float) -> bool:
        """Whether the utterance is cut here, although somebody goes on speaking."""
        rule = self._options.endpointing
        longest_s = rule.longest_s if rule else _LONGEST_S
        return bool(self._kept) and heard_s - self._begin_s >= longest_s

    def cut(self, end_s: float, *, empty: bool = False) -> list[Event]:
        """Recognise the utterance; without words there is none, unless an `empty` one is wanted."""
        found, begin_s = self._recognised(), self._begin_s
        self._kept, self._begin_s = [], end_s
        if not found.words and not empty:
            return []
        final = events.Final(
            utterance=self._number,
            transcript=found,
            start_s=begin_s,
            end_s=end_s,
            revised_words=0,
        )
        self._number += 1
        if found.words and self._options.endpointing:
            return [events.SpeechStarted(at_s=found.words[0].start_s), final]
        return [final]

    def rest(self) -> None:
        """Nobody speaks."""
        self._kept = []

    def _recognised(self) -> Transcript:
        if not self._kept:
            return transcript([])
        rows = [np.concatenate(self._kept)]
        (said,) = self._recogniser.transcribe_features(rows, hotwords=self._options.hotwords)
        return transcript([later(word, self._begin_s) for word in said.words])
