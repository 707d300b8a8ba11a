"""Transcripts as segments and subtitles (SubRip, WebVTT)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from hearloop.decoding import Word

__all__ = ["Segment", "segments", "srt", "vtt"]

PAUSE_S: Final = 0.7
"""Silence between two words that ends a segment."""
LONGEST_S: Final = 7.0
LONGEST_TEXT: Final = 84
"""Seconds and characters of a segment: two lines of subtitles, as long as people can read them
(Netflix's and the BBC's guidelines)."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Words that are shown together."""

    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The words, joined."""
        return " ".join(word.text for word in self.words)

    @property
    def start_s(self) -> float:
        """Where its first word begins."""
        return self.words[0].start_s

    @property
    def end_s(self) -> float:
        """Where its last word ends."""
        return self.words[-1].end_s


def segments(words: Sequence[Word]) -> list[Segment]:
    """The words, cut at pauses and where a segment would get too long."""
    if not words:
        return []
    cuts, begin = [0], 0
    for number, (before, word) in enumerate(pairwise(words), start=1):
        length = sum(len(one.text) + 1 for one in words[begin : number + 1]) - 1
        too_long = word.end_s - words[begin].start_s > LONGEST_S or length > LONGEST_TEXT
        if word.start_s - before.end_s >= PAUSE_S or too_long:
            cuts.append(number)
            begin = number
    return [Segment(words=tuple(words[a:b])) for a, b in pairwise([*cuts, len(words)])]


def srt(words: Sequence[Word]) -> str:
    """SubRip."""
    return "".join(
        f"{number}\n{_time(one.start_s, ',')} --> {_time(one.end_s, ',')}\n{one.text}\n\n"
        for number, one in enumerate(segments(words), start=1)
    )


def vtt(words: Sequence[Word]) -> str:
    """WebVTT."""
    return "WEBVTT\n\n" + "".join(_cues(words))


def _cues(words: Sequence[Word]) -> Iterator[str]:
    for one in segments(words):
        yield f"{_time(one.start_s, '.')} --> {_time(one.end_s, '.')}\n{one.text}\n\n"


def _time(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"
