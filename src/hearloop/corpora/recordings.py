"""Recordings that utterances are cut from, the last one kept decoded."""

from hearloop.audio import SAMPLE_RATE, Audio, Limits, Samples, decode, encode_flac
from hearloop.corpora.places import Place
from hearloop.errors import InvalidAudio

__all__ = ["Recordings", "Span"]

Span = tuple[float, float]
"""From when to when, in seconds."""

_RECORDING = Limits(bytes=2**30, seconds=3600.0)
"""A recording that segments are cut from: an hour is 230 MB of samples, and one is held."""

_SLACK_SECONDS = 0.02
"""Aligners round the end of a segment up to the next frame."""


class Recordings:
    """The recordings of one place. Segments of one should follow each other."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._last: tuple[str, Audio] | None = None

    def cut(self, location: str, span: Span | None) -> bytes:
        """The encoded audio of a span, or of the whole. Raises NotFound or InvalidAudio."""
        if span is None:
            return self._place.read_audio(location)
        return encode_flac(self._samples(location, span))

    def _samples(self, location: str, span: Span) -> Samples:
        if self._last is None or self._last[0] != location:
            body = self._place.read_audio(location, _RECORDING)
            self._last = location, decode(body, limits=_RECORDING)
        audio = self._last[1]
        if span[1] > audio.seconds + _SLACK_SECONDS:
            raise InvalidAudio(
                f"Recording {location} lasts {audio.seconds:.2f} s and a segment ends at "
                f"{span[1]:g} s."
            )
        return audio.samples[slice(*(round(second * SAMPLE_RATE) for second in span))]
