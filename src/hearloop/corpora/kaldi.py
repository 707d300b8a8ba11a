"""Kaldi data folders: wav.scp, text, and where they are there utt2spk and segments.

https://kaldi-asr.org/doc/data_prep.html
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hearloop.corpora.places import Place
from hearloop.corpora.recordings import Recordings, Span
from hearloop.corpora.splits import split_of
from hearloop.corpora.utterance import UNDATED, Rejected, Utterance
from hearloop.errors import InvalidAudio, InvalidInput, NotFound
from hearloop.recipe import Split

__all__ = ["utterances"]


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """Where an utterance is: a recording, and from when to when in seconds unless it is all."""

    recording: str
    span: Span | None


def utterances(
    folder: Place, *, split: Split | None, shares: tuple[float, float]
) -> Iterator[Utterance | Rejected]:
    """Every utterance that any of the files names, in the order of its recordings.

    split: of all of them; None splits by a hash of the speaker with `shares` for dev and test.
    """
    recordings = dict(_lines(folder, "wav.scp"))
    texts = dict(_lines(folder, "text"))
    speakers = dict(_lines(folder, "utt2spk")) if folder.exists("utt2spk") else {}
    segmented = folder.exists("segments")
    found = Recordings(folder)
    lines = _lines(folder, "segments" if segmented else "wav.scp")
    # Segments of one recording follow each other, so that it is decoded once.
    for name, line in sorted(lines, key=lambda line: (line[1].split()[:1], line[0])):
        speaker = speakers.get(name, name)
        try:
            if name not in texts:
                raise InvalidInput(f"Utterance {name} has no line in `text`; write one.")
            segment = _segment(name, line) if segmented else _Segment(recording=name, span=None)
            yield Utterance(
                id=name.replace("/", "-"),
                audio=found.cut(_location(recordings, segment.recording), segment.span),
                text=texts[name],
                speaker=speaker,
                split=split or split_of(f"folder/{speaker}", dev=shares[0], test=shares[1]),
                recorded_at=UNDATED,
                call=segment.recording if segmented else None,
            )
        except (InvalidInput, NotFound) as error:
            yield Rejected(id=name, reason=str(error))
    for name in sorted(texts.keys() - dict(lines).keys()):
        yield Rejected(id=name, reason=f"Utterance {name} has a text and no recording.")


def _lines(folder: Place, name: str) -> list[tuple[str, str]]:
    """Keys and values of lines `key value…`; a value may be empty."""
    fields = (line.split(None, 1) for line in folder.read_text(name).split("\n"))
    return [(line[0], line[1].strip() if line[1:] else "") for line in fields if line]


def _segment(name: str, line: str) -> _Segment:
    try:
        recording, start, end = line.split()[:3]
        span = float(start), float(end)
    except ValueError:
        raise InvalidInput(
            f"Utterance {name} has the segment {line!r}; write recording, start and end."
        ) from None
    if not 0 <= span[0] < span[1]:
        raise InvalidInput(f"Utterance {name} lasts from {start} to {end} s; start before the end.")
    return _Segment(recording=recording, span=span)


def _location(recordings: Mapping[str, str], name: str) -> str:
    """Where a recording is. Raises NotFound, or InvalidAudio where a command makes it."""
    location = recordings.get(name)
    if not location:
        raise NotFound(f"Recording {name} has no line in wav.scp; write one.")
    if location.endswith("|"):
        raise InvalidAudio(
            f"Recording {name} is made by the command {location!r}, and commands are not run; "
            "store its output as a file."
        )
    return location
