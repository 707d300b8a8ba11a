"""The searches that a live stream can have."""

from collections.abc import Callable, Sequence

from hearloop.beam import PrefixBeam
from hearloop.decoding import LogProbs, Spelling, Word
from hearloop.hotwords import compiled
from hearloop.streaming.options import StreamOptions
from hearloop.streaming.utterances import Search
from hearloop.tokenizer import Tokenizer

__all__ = ["Greedy", "searches"]


class Greedy:
    """The best id of each frame: fast, and never takes a word back."""

    revised = 0

    def __init__(self, tokenizer: Tokenizer, begins_s: float) -> None:
        self._spelling = Spelling(tokenizer, begins_s=begins_s)

    @property
    def words(self) -> list[Word]:
        """The words so far; the last one may still grow."""
        return self._spelling.words

    @property
    def text(self) -> str:
        """The words, joined."""
        return self._spelling.text

    @property
    def end_s(self) -> float | None:
        """Where the last word ends so far; None before the first one."""
        return self._spelling.end_s

    @property
    def within_word(self) -> bool:
        """Whether the last word may still grow."""
        return self._spelling.within_word

    def extend(
        self, log_probs: LogProbs, path: Sequence[int], certainties: Sequence[float]
    ) -> bool:
        """Take the next frames: their best ids and certainties are enough."""
        return self._spelling.extend(path, certainties)

    def take(self) -> list[Word]:
        """The words so far; the search goes on with what follows them."""
        return self._spelling.take()


def searches(options: StreamOptions, tokenizer: Tokenizer) -> Callable[[float], Search]:
    """Makes the search of each utterance, given the second of the stream where it begins.

    Raises InvalidInput for hotwords that the model cannot write.
    """
    if not options.hotwords and options.search == "greedy":
        return lambda begins_s: Greedy(tokenizer, begins_s)
    hotwords = compiled(options.hotwords, tokenizer)
    return lambda begins_s: PrefixBeam(tokenizer, hotwords, begins_s=begins_s)
