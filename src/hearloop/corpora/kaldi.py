"""Kaldi data folders: wav.scp, text, and where they are there utt2spk and segments.

https://kaldi-asr.org/doc/data_prep.html
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hearloop.audio import SAMPLE_RATE, Audio, Limits, Samples, decode, encode_flac
from hearloop.corpora.places import Place
from hearloop.corpora.splits import split_of
from hearloop.corpora.utterance import UNDATED, Rejected, Utterance
from hearloop.errors import InvalidAudio, InvalidInput, NotFound
from hearloop.recipe import Split

__all__ = ["utterances"]

_RECORDING = Limits(bytes=2**30, seconds=3600.0)
"""A recording that segments are cut from: an hour is 230 MB of samples, and one is held."""

_SLACK_SECONDS = 0.02
"""Aligners round the end of a segment up to the next frame."""


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """Where an utterance is: a recording, and from when to when in seconds unless it is all."""

    recording: str
    span: tuple[float, float] | None


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
    found = _Recordings(folder, recordings)
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
                audio=found.cut(segment),
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


class _Recordings:
    """The recordings of a wav.scp, the last one kept decoded."""

    def __init__(self, folder: Place, locations: Mapping[str, str]) -> None:
        self._folder = folder
        self._locations = locations
        self._last: tuple[str, Audio] | None = None

    def cut(self, segment: _Segment) -> bytes:
        """The encoded audio of a segment. Raises NotFound or InvalidAudio."""
        location = self._locations.get(segment.recording)
        if not location:
            raise NotFound(f"Recording {segment.recording} has no line in wav.scp; write one.")
        if location.endswith("|"):
            raise InvalidAudio(
                f"Recording {segment.recording} is made by the command {location!r}, and commands "
                "are not run; store its output as a file."
            )
        if segment.span is None:
            return self._folder.read_audio(location)
        return encode_flac(self._span(segment.recording, location, segment.span))

    def _span(self, name: str, location: str, span: tuple[float, float]) -> Samples:
        if self._last is None or self._last[0] != name:
            body = self._folder.read_audio(location, _RECORDING)
            self._last = name, decode(body, limits=_RECORDING)
        audio = self._last[1]
        if span[1] > audio.seconds + _SLACK_SECONDS:
            raise InvalidAudio(
                f"Recording {name} lasts {audio.seconds:.2f} s and a segment ends at {span[1]} s."
            )
        return audio.samples[slice(*(round(second * SAMPLE_RATE) for second in span))]
