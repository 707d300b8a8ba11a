"""What a live stream tells its listener, in this order within an utterance.

    SpeechStarted   somebody began to speak (only where the engine finds the ends of utterances)
    Partial         the words so far have changed
    Heard           one more step of audio has been recognised
    Final           the utterance is over
    Ended           the stream is over, nothing follows

Times are seconds from the beginning of the stream, those of words too.
"""

from dataclasses import dataclass

from hearloop.decoding import Transcript, Word
from hearloop.errors import HearloopError

__all__ = ["Ended", "Event", "Final", "Heard", "Partial", "SpeechStarted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechStarted:
    """Somebody began to speak."""

    at_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Partial:
    """The words of the utterance so far; the last one may still grow."""

    utterance: int
    """Number of the utterance in its stream, from 0 on."""
    text: str
    words: tuple[Word, ...]
    heard_s: float
    """The audio that these words are the answer to ends here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """All audio before `heard_s` has been recognised; sent after each step."""

    heard_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Final:
    """An utterance is over; its words will not change any more."""

    utterance: int
    transcript: Transcript
    start_s: float
    end_s: float
    revised_words: int
    """Words that partial results had shown and later ones replaced; growing is not replacing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """The stream is over, with the reason if it was cut off."""

    error: HearloopError | None = None


Event = SpeechStarted | Partial | Heard | Final | Ended
