"""One stream's way from audio to events; the engine runs the graph for many of them in between.

An utterance is recognised from zero states, as a recording of its own, so that it has the text
that the same frames have offline. While nobody speaks the graph does not run: the last frames
are kept, and go through it first once a voice begins.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from hearloop.architecture import DOWNSAMPLING, Architecture
from hearloop.features import (
    HOP,
    WINDOW,
    Matrix,
    Samples,
    Windows,
)
from hearloop.streaming.options import StreamOptions
from hearloop.streaming.voice import VoiceActivity
from hearloop.tokenizer import Tokenizer

__all__ = ["CHUNK_FRAMES", "SPAN", "Chunk", "Utterances"]

CHUNK_FRAMES: Final = 4 * DOWNSAMPLING
"""Feature frames (160 ms) of a step of the graph."""
SPAN: Final = (CHUNK_FRAMES - 1) * HOP + WINDOW
"""Samples that the windows of a step cover."""
_PREROLL: Final = 3
"""Chunks (480 ms) that an utterance begins with: the detector is late, and the network was
trained on recordings with a pause before the first word."""
_OVERDUE_S: Final = 10.0
"""An utterance without a gap between words is cut anyway, this long after the longest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Input of one stream for one step of the graph."""

    rows: Matrix
    """(16, 80) log-mel features."""
    heard_s: float
    """Seconds of the stream's audio up to the end of this chunk."""
    outputs: int = CHUNK_FRAMES // DOWNSAMPLING
    """How many of its outputs count: what follows is only there to fill the chunk."""
    first: bool = False
    """Whether an utterance begins here: its states are zero."""
    last: bool = False
    """Whether the utterance ends here because the caller said so."""


class Utterances:
    """Cuts one stream into chunks, and makes events of what the graph answers."""

    def __init__(
        self, options: StreamOptions, architecture: Architecture, tokenizer: Tokenizer
    ) -> None:
        self.pending: deque[Chunk] = deque()
        """Chunks that wait for the graph."""
        self._options = options
        self._architecture = architecture
        self._tokenizer = tokenizer
        self._voice = VoiceActivity() if options.endpointing else None
        self._voice_s = 0.0
        self._number = 0
        self._audio_s = 0.0
        """Seconds of audio in the recordings before this one: `commit` begins another."""
        self._begin_recording()
        self._idle()

    def _begin_recording(self) -> None:
        self._windows = Windows()
        self._taken = 0
        self._ending = False
        self._recent: deque[Matrix] = deque(maxlen=_PREROLL)

    def _idle(self) -> None:
        """Nobody speaks; without a detector, somebody always might."""
        self._active = False
        self._fed = self._seen = 0
        self._spoken = False

    # Audio in.

    def accept(self, samples: Samples) -> None:
        """Take the next (n,) samples at 16 kHz."""
        self._windows.accept(samples)
        self._samples_in = getattr(self, "_samples_in", 0) + len(samples)
