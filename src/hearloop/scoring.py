"""How far a hypothesis is from its reference, word by word and character by character.

>>> [pair.edit for pair in align("call my mother", "call mother now")]
['hit', 'deletion', 'hit', 'insertion']
>>> count_words("call my mother", "call mother now").rate
0.6666666666666666

Word error rate (WER) and character error rate (CER) are Levenshtein distances over the length of
the reference, as NIST's sclite and jiwer count them. Texts are taken as they are: normalise both
sides with `hearloop.text.normalise` first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Levenshtein

__all__ = [
    "AlignedWord",
    "Answer",
    "Edit",
    "ErrorCounts",
    "ScoredUtterance",
    "align",
    "answer",
    "class_rank",
    "count_characters",
    "count_words",
    "slices",
    "total",
]

Edit = Literal["hit", "substitution", "insertion", "deletion"]

_EDITS: Mapping[str, Edit] = {
    "equal": "hit",
    "replace": "substitution",
    "insert": "insertion",
    "delete": "deletion",
}

DURATION_CLASSES = ((2.0, "under 2 s"), (5.0, "2 to 5 s"), (float("inf"), "5 s or more"))
"""Upper ends in seconds: a digit or a name, a command, a whole sentence."""

SNR_CLASSES = ((10.0, "under 10 dB"), (20.0, "10 to 20 dB"), (float("inf"), "20 dB or more"))
"""Upper ends in dB: speech that people find hard, noisy and quiet."""


@dataclass(frozen=True, kw_only=True)
class AlignedWord:
    """One step of an alignment. The side that an insertion or deletion lacks is None."""

    edit: Edit
    reference: str | None
    hypothesis: str | None


@dataclass(frozen=True, kw_only=True)
class ErrorCounts:
    """Hits and errors of one or many alignments; they add up."""

    hits: int = 0
    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            hits=self.hits + other.hits,
            substitutions=self.substitutions + other.substitutions,
            insertions=self.insertions + other.insertions,
            deletions=self.deletions + other.deletions,
        )

    @property
    def errors(self) -> int:
        """Substitutions, insertions and deletions."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def length(self) -> int:
        """Words (or characters) in the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per word (or character) of the reference; may exceed 1.

        An empty reference counts as one word long, as in jiwer.
        """
        return self.errors / max(self.length, 1)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one model answered to an utterance, and how far off it was."""

    text: str
    confidence: float
    """Mean confidence of the words, 0 to 1; 0 when nothing was heard."""
    words: ErrorCounts
    characters: ErrorCounts


@dataclass(frozen=True, kw_only=True)
class ScoredUtterance:
    """One utterance of a judged set with the answer of each model."""

    id: str
    speaker: str | None
    call: str | None
    reference: str
    seconds: float
    audio_uri: str
    audio_digest: str
    slices: Mapping[str, str]
    """Slice name ("accent", "duration", …) to the class that the utterance falls in."""
    answers: Mapping[str, Answer]
    """Answer by model: "champion", "challenger"."""

    @property
    def block(self) -> str:
        """What is drawn as a whole when resampling: the speaker, else the call, else itself."""
        if self.speaker:
            return f"speaker {self.speaker}"
        return f"call {self.call}" if self.call else f"utterance {self.id}"


def align(reference: str, hypothesis: str) -> list[AlignedWord]:
    """Align two texts word by word with the fewest edits, in reading order."""
    spoken, heard = reference.split(), hypothesis.split()
    aligned = []
    for step in Levenshtein.opcodes(spoken, heard):
        edit = _EDITS[step.tag]
        for offset in range(max(step.src_end - step.src_start, step.dest_end - step.dest_start)):
            aligned.append(
                AlignedWord(
                    edit=edit,
                    reference=None if edit == "insertion" else spoken[step.src_start + offset],
                    hypothesis=None if edit == "deletion" else heard[step.dest_start + offset],
                )
            )
    return aligned


def count_words(reference: str, hypothesis: str) -> ErrorCounts:
    """Word errors; `.rate` is the WER."""
    return _count(reference.split(), hypothesis.split())


def count_characters(reference: str, hypothesis: str) -> ErrorCounts:
    """Character errors, single spaces between words included; `.rate` is the CER."""
    return _count(" ".join(reference.split()), " ".join(hypothesis.split()))


def answer(reference: str, text: str, confidence: float) -> Answer:
    """Score one model's answer against the reference."""
    return Answer(
        text=text,
        confidence=confidence,
        words=count_words(reference, text),
        characters=count_characters(reference, text),
    )


def total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """The counts of all alignments together."""
    return sum(counts, ErrorCounts())


def slices(*, accent: str | None, source: str, seconds: float, snr_db: float) -> dict[str, str]:
    """The class of an utterance in each slice that evaluations report."""
    return {
        "accent": accent or "unknown",
        "duration": _class_of(seconds, DURATION_CLASSES),
        "snr": _class_of(snr_db, SNR_CLASSES),
        "source": source,
    }


def class_rank(name: str) -> int:
    """Place of a class among its slice's, from short to long and from noisy to quiet."""
    ordered = [name for classes in (DURATION_CLASSES, SNR_CLASSES) for _, name in classes]
    return ordered.index(name) if name in ordered else len(ordered)


def _count(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    # Several alignments can have the fewest edits; jiwer takes rapidfuzz's, and so do we.
    substitutions = insertions = deletions = 0
    for step in Levenshtein.editops(reference, hypothesis):
        substitutions += step.tag == "replace"
        insertions += step.tag == "insert"
        deletions += step.tag == "delete"
    return ErrorCounts(
        hits=len(reference) - substitutions - deletions,
        substitutions=substitutions,
        insertions=insertions,
        deletions=deletions,
    )


def _class_of(value: float, classes: Sequence[tuple[float, str]]) -> str:
    return next((name for upper, name in classes if value < upper), classes[-1][1])
