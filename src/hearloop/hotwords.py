"""Phrases to expect: while one is being written, each of its characters earns a bonus.

An Aho-Corasick automaton (1975) over characters, as in icefall's context graph: a phrase that
breaks off gives its bonus back, whatever phrase begins within it. Phrases match whole words.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from hearloop.errors import InvalidInput
from hearloop.tokenizer import Tokenizer

__all__ = ["MOST_HOTWORDS", "Hotword", "Hotwords", "State", "compiled"]

MOST_HOTWORDS: Final = 1000
"""Phrases of one stream: more would match anything."""


@dataclass(frozen=True, kw_only=True)
class Hotword:
    """A phrase to expect, in the model's own spelling (`hearloop.text.normalise`)."""

    phrase: str
    boost: float = 4.5
    """Nats that a character of it is worth at most, where it lacks so many. Chosen by
    `benchmarks.boost`: the least with which a third of words that training never heard are found;
    others are hardly ever taken for them, which changes from 6 on."""


@dataclass(eq=False, slots=True)
class State:
    """What of the phrases the end of a text matches."""

    value: float = 0.0
    """Nats of the bonus that is given back when the phrase breaks off."""
    following: dict[str, "State"] = field(default_factory=dict)
    """By the next character."""
    shorter: "State | None" = None
    """The longest other match that ends here too."""
    earned: float = 0.0
    """Nats that are kept when this is reached: a phrase is complete."""


class Hotwords:
    """The automaton of some phrases."""

    def __init__(self, hotwords: Iterable[Hotword], tokenizer: Tokenizer) -> None:
        """Raises InvalidInput for too many phrases, an empty one, or one that cannot be written."""
        phrases = tuple(hotwords)
        if len(phrases) > MOST_HOTWORDS:
            raise InvalidInput(
                f"There are {len(phrases)} hotwords, more than {MOST_HOTWORDS}; send those that "
                "are likely in this call."
            )
        self._symbols = tokenizer.symbols
        self._beginning: dict[str, list[int]] = {}
        """Ids of symbols by the character that they begin with."""
        for index, symbol in enumerate(self._symbols, start=1):
            self._beginning.setdefault(symbol[0], []).append(index)
        self._root = State()
        for hotword in phrases:
            words = " ".join(hotword.phrase.split())
            if not words:
                raise InvalidInput("A hotword is empty; send words or leave it out.")
            tokenizer.encode(words)  # raises where the model cannot write it
            self._insert(f" {words} ", hotword.boost)
        self._link()
        self.start = self._root.following.get(" ", self._root)
        """Before the first character of a text: as after a space."""

    def _insert(self, phrase: str, boost: float) -> None:
        state = self._root
        for place, character in enumerate(phrase):
            state = state.following.setdefault(character, State())
            state.value = max(state.value, place * boost)
        state.earned = max(state.earned, state.value)

    def _link(self) -> None:
        """Breadth first, so that shorter matches are linked before longer ones."""
        waiting = deque([self._root])
        while waiting:
            state = waiting.popleft()
            for character, following in state.following.items():
                shorter = state.shorter
                while shorter and character not in shorter.following:
                    shorter = shorter.shorter
                following.shorter = shorter.following[character] if shorter else self._root
                if not following.earned:
                    following.earned = following.shorter.earned
                waiting.append(following)

    def awaited(self, state: State) -> list[int]:
        """Ids of symbols with which a phrase may go on, or begin."""
        return [i for character in state.following for i in self._beginning.get(character, ())]

    def step(self, state: State, index: int) -> tuple[State, float]:
        """The state after one more symbol, and the nats that it earns or costs."""
        total = 0.0
        for character in self._symbols[index - 1]:
            state, nats = self._write(state, character)
            total += nats
        return state, total

    def _write(self, state: State, character: str) -> tuple[State, float]:
        following: State | None = state
        while following and character not in following.following:
            following = following.shorter
        after = following.following[character] if following else self._root
        earned = after.earned
        while not after.following and after.shorter:  # nothing longer can match
            after = after.shorter
        return after, earned + after.value - state.value

    def end(self, state: State) -> float:
        """The nats that it earns or costs when the text ends here."""
        after, nats = self._write(state, " ")
        return nats - after.value


@lru_cache(maxsize=64)
def _compiled(hotwords: tuple[Hotword, ...], tokenizer: Tokenizer) -> Hotwords:
    return Hotwords(hotwords, tokenizer)


def compiled(hotwords: Iterable[Hotword], tokenizer: Tokenizer) -> Hotwords:
    """The automaton, made once for streams of one recogniser that ask for the same phrases."""
    return _compiled(tuple(hotwords), tokenizer)
