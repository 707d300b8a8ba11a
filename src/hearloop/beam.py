"""Prefix beam search (Hannun et al. 2014) with hotwords, a few frames at a time.

A prefix is a node that knows the one before it, so that two ways to the same text meet in one
node. What all prefixes of the beam have in common is settled: it is written as words and let go,
and a step costs the same in the first minute as in the last.
"""

import heapq
import math
from collections.abc import Sequence
from typing import Final

from hearloop.architecture import OUTPUT_SECONDS
from hearloop.decoding import LogProbs, Transcript, Word, certainty, transcript
from hearloop.hotwords import Hotwords, State
from hearloop.tokenizer import BLANK, Tokenizer

__all__ = ["BEAM", "PrefixBeam", "search", "transcribe"]

BEAM: Final = 16
"""Prefixes that are followed; with half of them a hotword gets lost now and then, and twice as
many find hardly anything else."""
UNLIKELY: Final = -7.0
"""Characters less likely than this (in nats) begin no prefix, unless a hotword waits for them."""
HOPELESS: Final = -20.0
"""Nor then, below this; and a prefix so far behind the best one is given up."""
SILENT: Final = -1e-3
"""A blank more likely than this leaves the prefixes as they are."""
SURPLUS: Final = 2.0
"""Nats by which a hotword's character may come to lead over what is likeliest without it: what
characters that are heard clearly earn must not pay for one that was not said."""
_NEVER: Final = -math.inf


class _Prefix:
    """A text: the prefix before it and one character more."""

    __slots__ = (
        "before", "blank", "bonus", "certainty", "first", "following", "index", "last",
        "letter", "next_blank", "next_letter", "own", "pending", "state",
    )  # fmt: skip

    def __init__(self, before: "_Prefix | None", index: int, state: State) -> None:
        self.before = before
        self.index = index
        self.state = state
        self.bonus = self.own = self.pending = 0.0
        """Nats by hotwords: in all, for this character, and given back if a phrase breaks off."""
        self.following: dict[int, _Prefix] = {}
        self.blank = self.letter = self.next_blank = self.next_letter = _NEVER
        """Nats of all paths that end in a blank, or in the last character; now and next."""
        self.first = self.last = 0
        """Frames in which the last character begins and ends."""
        self.certainty = 1.0

    def enter(self, before: float, row: Sequence[float], frame: int, sure: float) -> None:
        """Paths of `before` nats to the prefix before this one write the last character now.

        Where they outweigh those that have written it already, it begins here.
        """
        nats = before + row[self.index]
        self.next_letter = _add(self.next_letter, nats)
        if nats > _add(self.blank, self.letter):
            self.first, self.last, self.certainty = frame, frame, sure

    def stay(self, row: Sequence[float], frame: int, sure: float, best: int) -> None:
        """The last character goes on for another frame."""
        if self.letter != _NEVER:
            self.next_letter = _add(self.next_letter, self.letter + row[self.index])
            # After a blank it would be written once more, which is another prefix's last character.
            if best == self.index and self.letter > self.blank:
                self.last, self.certainty = frame, min(self.certainty, sure)

    def give_up(self) -> None:
        """The prefix leaves the beam. Should its text come back, that is another prefix: this one
        keeps the times that those which grew from it have."""
        if self.before:
            self.before.following.pop(self.index, None)

    @property
    def score(self) -> float:
        """Nats, the bonus of hotwords included."""
        return _add(self.blank, self.letter) + self.bonus


def _score(prefix: _Prefix) -> float:
    return prefix.score


def _add(one: float, other: float) -> float:
    """Logarithm of the sum of two probabilities."""
    if one < other:
        one, other = other, one
    return one if other == _NEVER else one + math.log1p(math.exp(other - one))


def transcribe(log_probs: LogProbs, tokenizer: Tokenizer, hotwords: Hotwords) -> Transcript:
    """The text of one recording (frames, vocabulary) in which hotwords are likely."""
    return transcript(search(log_probs, tokenizer, hotwords).take())


def search(
    log_probs: LogProbs, tokenizer: Tokenizer, hotwords: Hotwords, *, begins_s: float = 0.0
) -> "PrefixBeam":
    """The beam after all frames (frames, vocabulary), the first of which is about `begins_s`."""
    beam = PrefixBeam(tokenizer, hotwords, begins_s=begins_s)
    path, certainties = log_probs.argmax(axis=1).tolist(), certainty(log_probs).tolist()
    beam.extend(log_probs, path, certainties)
    return beam


class PrefixBeam:
    """Finds the words of one utterance whose frames arrive a few at a time."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        hotwords: Hotwords,
        *,
        begins_s: float = 0.0,
        width: int = BEAM,
        unlikely: float = UNLIKELY,
    ) -> None:
        """Frame 0 is about the audio from `begins_s` on."""
        self.revised = 0
        self._tokenizer = tokenizer
        self._hotwords = hotwords
        self._begin_words = {i for i, s in enumerate(tokenizer.symbols, start=1) if s[0] == " "}
        self._spaces = {i for i in self._begin_words if tokenizer.symbols[i - 1] == " "}
        self._begins_s = begins_s
        self._width = width
        self._unlikely = unlikely
        self._frame = 0
        self._settled: list[_Prefix] = []
        """Characters that no prefix disputes and that are not yet words."""
        self._words: list[Word] = []
        self._shown: list[Word] = []
        self._root = _Prefix(None, BLANK, hotwords.start)
        self._root.blank = 0.0
        self._beam = [self._root]

    @property
    def words(self) -> list[Word]:
        """The words so far; the last ones may still change."""
        return list(self._shown)

    @property
    def text(self) -> str:
        """The words, joined."""
        return " ".join(word.text for word in self._shown)

    @property
    def end_s(self) -> float | None:
        """Where the last word ends so far; None before the first one."""
        return self._shown[-1].end_s if self._shown else None

    @property
    def within_word(self) -> bool:
        """Whether the last word may still grow."""
        index = self._beam[0].index
        return index != BLANK and index not in self._spaces

    def extend(
        self, log_probs: LogProbs, path: Sequence[int], certainties: Sequence[float]
    ) -> bool:
        """Take the next frames (T, V), their best ids and certainties. Did the words change?"""
        moved = False
        for row, best, sure in zip(log_probs, path, certainties, strict=True):
            if best == BLANK and row[BLANK] > SILENT:
                self._pass(float(row[BLANK]))
            else:
                self._advance(row.tolist(), best, sure)
                moved = True
            self._frame += 1
        return moved and self._show()

    def take(self) -> list[Word]:
        """The words, those that win if the utterance ends here; the search goes on after them."""
        self._beam.sort(key=self._final_score, reverse=True)
        self._show()
        words, self._shown, self._words, self._settled = self._shown, [], [], []
        winner = self._beam[0]
        self._root = _Prefix(None, winner.index, self._hotwords.start)
        self._root.blank, self._root.letter = winner.blank, winner.letter
        self._beam = [self._root]
        return words

    def alternatives(self) -> list[tuple[float, list[Word]]]:
        """Nats and words of each prefix, should the utterance end here."""
        return [
            (
                self._final_score(prefix),
                [*self._words, *self._spelled([*self._settled, *self._chain(prefix)])],
            )
            for prefix in self._beam
        ]

    def _final_score(self, prefix: _Prefix) -> float:
        nats = self._hotwords.end(prefix.state)
        return prefix.score + (min(nats, SURPLUS) if nats >= 0 else -prefix.pending)

    def _pass(self, blank: float) -> None:
        for prefix in self._beam:
            prefix.blank = _add(prefix.blank, prefix.letter) + blank
            prefix.letter = _NEVER

    def _advance(self, row: list[float], best: int, sure: float) -> None:
        likely = [index for index, nats in enumerate(row) if nats >= self._unlikely and index]
        touched: dict[_Prefix, None] = {}
        for prefix in self._beam:
            touched[prefix] = None
            total = _add(prefix.blank, prefix.letter)
            prefix.next_blank = _add(prefix.next_blank, total + row[BLANK])
            if prefix.index != BLANK:
                prefix.stay(row, self._frame, sure, best)
            awaited = self._hotwords.awaited(prefix.state)
            waited = [i for i in awaited if HOPELESS <= row[i] < self._unlikely]
            for index in likely + waited:
                before = prefix.blank if index == prefix.index else total
                if before != _NEVER:
                    following = self._following(prefix, index, row[best] - row[index])
                    touched[following] = None
                    following.enter(before, row, self._frame, sure)
        for prefix in touched:
            prefix.blank, prefix.letter = prefix.next_blank, prefix.next_letter
            prefix.next_blank = prefix.next_letter = _NEVER
        leading = heapq.nlargest(self._width, touched, key=_score)
        least = leading[0].score + HOPELESS
        self._beam = [prefix for prefix in leading if prefix.score >= least]
        for prefix in touched.keys() - set(self._beam):
            prefix.give_up()

    def _following(self, prefix: _Prefix, index: int, behind: float) -> _Prefix:
        """The prefix with one character more, now `behind` nats less likely than the likeliest."""
        found = prefix.following.get(index)
        if found is None:
            state, nats = self._hotwords.step(prefix.state, index)
            found = prefix.following[index] = _Prefix(prefix, index, state)
            if nats < 0:
                found.pending = min(state.value, prefix.pending)
                found.own = found.pending - prefix.pending
            else:
                found.own = min(nats, behind + SURPLUS)
                complete = state.earned > 0 or state.value < prefix.state.value
                found.pending = 0.0 if complete else prefix.pending + found.own
            found.bonus = prefix.bonus + found.own
        elif found.own > behind + SURPLUS:  # it lacks less now, and keeps no more
            less = found.own - behind - SURPLUS
            found.own -= less
            found.bonus -= less
            found.pending = max(0.0, found.pending - less)
        return found

    def _show(self) -> bool:
        """Take over the best prefix. Did the words change?"""
        chain = self._chain(self._beam[0])
        words = [*self._words, *self._spelled([*self._settled, *chain])]
        changed = [word.text for word in words] != [word.text for word in self._shown]
        if changed:
            self._count_revised(words)
        self._shown = words
        self._settle(chain)
        return changed

    def _chain(self, prefix: _Prefix) -> list[_Prefix]:
        """The characters between the root and a prefix, it included."""
        chain = []
        while prefix is not self._root:
            chain.append(prefix)
            assert prefix.before
            prefix = prefix.before
        return chain[::-1]

    def _count_revised(self, words: list[Word]) -> None:
        for place, before in enumerate(self._shown):
            now = words[place].text if place < len(words) else ""
            growing = place == len(self._shown) - 1 and now.startswith(before.text)
            self.revised += now != before.text and not growing

    def _settle(self, chain: list[_Prefix]) -> None:
        """What all prefixes have in common becomes the root; its whole words are written."""
        depths = {prefix: depth for depth, prefix in enumerate(chain, start=1)}
        common = len(chain)
        for prefix in self._beam[1:]:
            while prefix not in depths and prefix.before:
                prefix = prefix.before
            common = min(common, depths.get(prefix, 0))
        if not common:
            return
        self._root = chain[common - 1]
        self._root.before = None
        self._settled += chain[:common]
        begins = [n for n, each in enumerate(self._settled) if each.index in self._begin_words]
        if begins:
            self._words += self._spelled(self._settled[: begins[-1]])
            self._settled = self._settled[begins[-1] :]

    def _spelled(self, prefixes: list[_Prefix]) -> list[Word]:
        words: list[Word] = []
        letters: list[_Prefix] = []
        for prefix in [*prefixes, None]:
            if letters and (prefix is None or prefix.index in self._begin_words):
                words.append(self._word(letters))
                letters = []
            if prefix is not None and prefix.index not in self._spaces:
                letters.append(prefix)
        return words

    def _word(self, letters: list[_Prefix]) -> Word:
        return Word(
            text=self._tokenizer.decode([letter.index for letter in letters]),
            start_s=round(self._begins_s + letters[0].first * OUTPUT_SECONDS, 3),
            end_s=round(self._begins_s + (letters[-1].last + 1) * OUTPUT_SECONDS, 3),
            confidence=min(letter.certainty for letter in letters),
        )
