"""What every corpus yields: utterances, or the reason why something is none."""

from dataclasses import dataclass
from datetime import UTC, datetime

from hearloop.recipe import Split

__all__ = ["UNDATED", "Rejected", "Utterance"]

UNDATED = datetime(2000, 1, 1, tzinfo=UTC)
"""When speech was recorded whose corpus does not say: before anything that could be joined to it
as of a time, and the same in every run."""


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One utterance as a corpus gives it: neither its audio nor its text has been checked.

    id: unique in the corpus and free of `/`; audio: the encoded bytes, as found unless they had
    no header; recorded_at: when it was said, with a time zone; correction: id of the correction
    that the text is from; language: None where the corpus does not say, and the recipe's holds.
    """

    id: str
    audio: bytes
    text: str
    speaker: str
    split: Split
    recorded_at: datetime
    call: str | None = None
    accent: str | None = None
    language: str | None = None
    contributor: str | None = None
    correction: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """Something in a corpus that cannot be an utterance, and why, in one sentence."""

    id: str
    reason: str
