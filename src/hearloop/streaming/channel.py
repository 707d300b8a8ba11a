"""One live stream as the engine's thread sees it."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum

import numpy as np

from hearloop.decoding import LogProbs
from hearloop.errors import HearloopError
from hearloop.features import Samples
from hearloop.hotwords import compiled
from hearloop.recogniser import Recogniser
from hearloop.rescoring import Encoded
from hearloop.streaming import events
from hearloop.streaming.chunks import Chunk, Chunker
from hearloop.streaming.events import Event
from hearloop.streaming.options import StreamOptions
from hearloop.streaming.search import searches
from hearloop.streaming.utterances import Rescore, Utterances
from hearloop.streaming.voice import VoiceActivity
from hearloop.streaming.whole import WholeUtterances

__all__ = ["Channel", "Listener", "Mark"]

log = logging.getLogger(__name__)

Listener = Callable[[Event], None]


class Mark(Enum):
    """What stands between the samples of a stream."""

    COMMIT = "the utterance ends here"
    FINISH = "the stream ends here"


def _rescoring(options: StreamOptions, recogniser: Recogniser) -> Rescore | None:
    """How finals are rescored, where there is an attention decoder."""
    rescorer = recogniser.rescorer
    if rescorer is None:
        return None
    hotwords = compiled(options.hotwords, recogniser.tokenizer)
    return lambda log_probs, encoded, begins_s: rescorer.words(
        log_probs, encoded, hotwords, begins_s=begins_s
    )


class Channel:
    """Audio in, events out; the engine runs the graph in between.

    The inbox is shared and guarded by the engine's lock, the rest belongs to the engine's thread.
    """

    def __init__(
        self,
        slot: int,
        listener: Listener,
        options: StreamOptions,
        recogniser: Recogniser,
    ) -> None:
        self.slot = slot
        """Where in the engine's pool the states of this stream are."""
        self.inbox: deque[Samples | Mark] = deque()
        self.inbox_samples = 0
        self._inbox_marks = 0
        shape = recogniser.bundle.architecture
        self.chunker = Chunker(shape, VoiceActivity() if options.endpointing else None)
        self.ended = False
        self._listener = listener
        search = searches(options, recogniser.tokenizer)
        self._words: Utterances | WholeUtterances = (
            Utterances(options, shape.lookahead, search, _rescoring(options, recogniser))
            if shape.streaming
            else WholeUtterances(options, recogniser)
        )
        self._mark: Mark | None = None
        self._manual = options.endpointing is None
        self._told_s = 0.0

    def put(self, item: Samples | Mark) -> None:
        """Leave something for the engine, with its lock held."""
        self.inbox.append(item)
        if isinstance(item, Mark):
            self._inbox_marks += 1
        else:
            self.inbox_samples += len(item)

    def due(self) -> bool:
        """Whether there is something to do, with the engine's lock held."""
        return (
            self._mark is not None
            or self._inbox_marks > 0
            or bool(self.chunker.pending)
            or self.inbox_samples >= self.chunker.missing
        )

    def drain(self) -> None:
        """Take what is in the inbox up to a mark, which has to be dealt with first."""
        pieces: list[Samples] = []
        while self.inbox and self._mark is None:
            item = self.inbox.popleft()
            if isinstance(item, Mark):
                self._mark = item
                self._inbox_marks -= 1
            else:
                pieces.append(item)
                self.inbox_samples -= len(item)
        if pieces:
            self.chunker.accept(pieces[0] if len(pieces) == 1 else np.concatenate(pieces))
        if self._mark and not self.chunker.ending:
            self.chunker.end()

    def answer(
        self,
        chunk: Chunk,
        log_probs: LogProbs,
        path: Sequence[int],
        certainties: Sequence[float],
        encoded: Encoded | None,
    ) -> None:
        """Take the outputs of the graph for a chunk; `encoded` where finals are rescored."""
        assert isinstance(self._words, Utterances)
        if self._words.answer(chunk, log_probs, path, certainties, encoded):
            self._tell(self._words.partial(self.chunker.heard_s))

    def keep(self, chunk: Chunk) -> None:
        """Take a chunk for a network that hears whole utterances."""
        assert isinstance(self._words, WholeUtterances)
        self._words.keep(chunk)

    def settle(self) -> None:
        """After a step: say what was heard, and end the utterance where it is over."""
        if self.chunker.pending:
            return
        heard_s = self.chunker.heard_s
        if heard_s > self._told_s:
            self._told_s = heard_s
            self._tell([events.Heard(heard_s=heard_s)])
        if self.chunker.exhausted and self._mark:
            self._end_recording(self._mark, heard_s)
        elif self._words.over(heard_s, self.chunker.voice_s):
            self._tell(self._words.cut(heard_s))
            self._words.rest()
            self.chunker.rest()
        elif self._words.too_long(heard_s):
            self._tell(self._words.cut(heard_s))

    def _end_recording(self, mark: Mark, heard_s: float) -> None:
        asked = mark is Mark.COMMIT or (self._manual and not self.chunker.empty)
        self._tell(self._words.cut(heard_s, empty=asked))
        self._words.rest()
        self.chunker.begin_recording()
        self._mark = None
        if mark is Mark.FINISH:
            self.end(None)

    def end(self, error: HearloopError | None) -> None:
        """Nothing follows; `error` says why, if the stream was cut off."""
        if not self.ended:
            self._tell([events.Ended(error=error)])
            self.ended = True

    def _tell(self, found: Sequence[Event]) -> None:
        try:
            for event in found:
                if not self.ended:
                    self._listener(event)
        except Exception:
            log.exception("The listener of a stream failed; the stream is given up")
            self.ended = True
