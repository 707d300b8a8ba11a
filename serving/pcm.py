"""Live audio as clients send it, piece by piece, to samples at 16 kHz.

Linear PCM (16 bit, little endian, mono) at 8, 16, 24 or 48 kHz, and G.711 at 8 kHz.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from hearloop.audio import SAMPLE_RATE, Samples
from hearloop.errors import InvalidAudio

__all__ = ["RATES", "Encoding", "Pcm", "Reader"]

Encoding = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]

RATES: Final = (8_000, 16_000, 24_000, 48_000)
"""Of linear PCM, in Hz."""


@dataclass(frozen=True, kw_only=True)
class Pcm:
    """How live audio is encoded. G.711 is always at 8 kHz."""

    encoding: Encoding = "audio/pcm"
    rate: int = 24_000

    def to_json(self) -> dict[str, object]:
        """As in OpenAI's session objects."""
        if self.encoding != "audio/pcm":
            return {"type": self.encoding}
        return {"type": self.encoding, "rate": self.rate}


_SCALE: Final = np.float32(32768)


def _mu_law() -> NDArray[np.float32]:
    """Samples of the 256 codes of ITU-T G.711 mu-law."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(np.int32)
    magnitude = (((mantissa << 3) + 132) << exponent) - 132
    return np.where(code & 128, -magnitude, magnitude).astype(np.float32) / _SCALE


def _a_law() -> NDArray[np.float32]:
    """Samples of the 256 codes of ITU-T G.711 A-law."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(np.int32)
    magnitude = np.where(
        exponent == 0,
        (mantissa << 4) + 8,
        ((mantissa << 4) + 264) << np.maximum(exponent.astype(np.int32) - 1, 0),
    )
    return np.where(code & 128, magnitude, -magnitude).astype(np.float32) / _SCALE


_G711: Final = {"audio/pcmu": _mu_law(), "audio/pcma": _a_law()}


class Reader:
    """Reads one stream of a format; what `last` leaves behind begins a stream of its own."""

    def __init__(self, pcm: Pcm) -> None:
        self._table = _G711.get(pcm.encoding)
        self._rate = 8_000 if self._table is not None else pcm.rate
        self._begin()

    def _begin(self) -> None:
        self._resampler = (
            None
            if self._rate == SAMPLE_RATE
            else soxr.ResampleStream(self._rate, SAMPLE_RATE, 1, dtype="float32", quality="MQ")
        )

    def read(self, piece: bytes) -> Samples:
        """The samples of the next piece; a resampler holds back a few milliseconds."""
        if self._table is not None:
            samples = self._table[np.frombuffer(piece, np.uint8)]
        else:
            if len(piece) % 2:
                raise InvalidAudio(
                    f"The audio has {len(piece)} bytes, which are no whole 16-bit samples; send an "
                    "even number."
                )
            samples = np.frombuffer(piece, "<i2").astype(np.float32)
            samples /= _SCALE
        return samples if self._resampler is None else self._resampler.resample_chunk(samples)

    def last(self) -> Samples:
        """What the resampler has held back: the utterance ends here."""
        if self._resampler is None:
            return np.empty(0, np.float32)
        rest: Samples = self._resampler.resample_chunk(np.empty(0, np.float32), last=True)
        self._begin()
        return rest
