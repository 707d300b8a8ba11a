"""In which order people should look at what was answered: the most instructive first.

Two kinds of utterances are put up. *Doubtful* ones teach most: the recogniser was unsure, the
version in service would write something else, or people contradict each other; and they differ
from those already ahead of them. What people pick by doubt says nothing about the whole, so a
fixed share of the places is *audited* instead: utterances of calls drawn by lot, whatever was
heard in them. Word error rates of audited calls are unbiased.

    >>> for place in rank(candidates, limit=10):
    ...     print(place.reason, place.candidate.text)
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import exp, floor
from typing import Final, Literal

import numpy as np
from rapidfuzz.distance import Levenshtein

__all__ = [
    "AUDITED_CALLS",
    "Candidate",
    "Place",
    "Reason",
    "disagreement",
    "doubt",
    "is_audited",
    "lot",
    "rank",
]

AUDITED_CALLS: Final = 0.05
"""Share of calls that are drawn by lot, as long as the monitor asks for no more."""

_AUDITED_PLACES: Final = 0.2
"""Share of the places that audited utterances take: enough that an auditing reviewer sees them
all, while four places in five go to what teaches most."""

_VARIETY: Final = 0.6
"""Share of its doubt that the repetition of an utterance ahead of it loses."""

_SAME_CALL: Final = 0.5
"""How alike two utterances of one call are at least: the same voice on the same line."""

_NOTHING_HEARD: Final = 0.5
"""Doubt about an empty answer: as likely silence, which teaches nothing, as a lost utterance."""

Reason = Literal["audited", "doubtful"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An answered utterance that nobody has settled."""

    request_id: str
    call: str
    text: str
    """What was answered."""
    confidence: float
    """Mean confidence of the words, 0 to 1."""
    plausibility: float | None = None
    """Nats per character by which the answer lies below what the version in service would write;
    at most about 0, None when it has not been asked."""
    opinions: tuple[str, ...] = ()
    """What people say was said, one text each; empty before the first of them."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place in the queue."""

    candidate: Candidate
    reason: Reason
    doubt: float
    """0 to 1: how instructive it looks by itself."""


def lot(call: str) -> float:
    """A number in [0, 1) drawn for a call: the same on every machine, and without its content."""
    return int.from_bytes(hashlib.sha256(call.encode()).digest()[:8], "big") / 2**64


def is_audited(call: str, share: float) -> bool:
    """Whether the lot fell on a call; a larger share holds all calls of a smaller one."""
    return lot(call) < share


def disagreement(opinions: Sequence[str]) -> float:
    """Mean share of words in which two people differ: 0 (or one opinion) to 1."""
    pairs = [
        Levenshtein.normalized_distance(one.split(), other.split())
        for one, other in combinations(opinions, 2)
    ]
    return float(np.mean(pairs)) if pairs else 0.0


def doubt(candidate: Candidate) -> float:
    """How doubtful an answer is, 0 to 1: any one of the three signs is enough."""
    unsure = 1.0 - candidate.confidence if candidate.text else _NOTHING_HEARD
    plausibility = 0.0 if candidate.plausibility is None else min(candidate.plausibility, 0.0)
    return 1.0 - (1.0 - unsure) * exp(plausibility) * (1.0 - disagreement(candidate.opinions))


def rank(
    candidates: Iterable[Candidate], *, limit: int, audited_calls: float = AUDITED_CALLS
) -> list[Place]:
    """The first `limit` places of the queue; the order of `candidates` makes no difference.

    Every fifth place is an audited utterance's as long as there are any, in the order of their
    lots. The others go one after the other to the candidate whose doubt is the greatest, less
    what it shares with those ahead of it (maximal marginal relevance, Carbonell and Goldstein
    1998).
    """
    queue = _Queue(sorted(candidates, key=lambda one: (lot(one.call), one.request_id)))
    audited = [is_audited(one.call, audited_calls) for one in queue.candidates]
    for place in range(min(limit, len(audited))):
        by_lot = floor((place + 1) * _AUDITED_PLACES) > floor(place * _AUDITED_PLACES)
        queue.take(queue.first(audited) if by_lot else None)
    return [
        Place(
            candidate=queue.candidates[at],
            reason="audited" if audited[at] else "doubtful",
            doubt=float(queue.doubts[at]),
        )
        for at in queue.taken
    ]


class _Queue:
    """Candidates of which one after the other is taken."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        self.doubts = np.array([doubt(one) for one in candidates])
        self.taken: list[int] = []
        self._words = [frozenset(one.text.split()) for one in candidates]
        self._alike = np.zeros(len(candidates))
        self._free = np.ones(len(candidates), dtype=bool)

    def first(self, wanted: Sequence[bool]) -> int | None:
        """The first of those wanted that is not taken."""
        found = np.flatnonzero(self._free & wanted)
        return int(found[0]) if len(found) else None

    def take(self, at: int | None) -> None:
        """Take the candidate at that index, else the one that teaches most."""
        if at is None:
            gain = self.doubts * (1.0 - _VARIETY * self._alike)
            at = int(np.where(self._free, gain, -1.0).argmax())
        self._free[at] = False
        self.taken.append(at)
        for other in np.flatnonzero(self._free):
            self._alike[other] = max(self._alike[other], self._likeness(at, int(other)))

    def _likeness(self, one: int, other: int) -> float:
        """0 to 1: the share of words that two utterances have in common, and whether one call."""
        here, there = self._words[one], self._words[other]
        either = len(here | there)
        common = len(here & there) / either if either else 1.0
        same_call = self.candidates[one].call == self.candidates[other].call
        return max(common, _SAME_CALL if same_call else 0.0)
