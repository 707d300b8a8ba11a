"""From the audio of one stream to the chunks that the graph takes.

An utterance is recognised from zero states, as a recording of its own, so that it has the text
that the same frames have offline. While nobody speaks the graph does not run: the frames that
came last are kept, and go through it first once a voice begins.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from hearloop.architecture import DOWNSAMPLING, Shape
from hearloop.features import (
    FRAME_SECONDS,
    HOP,
    SAMPLE_RATE,
    WINDOW,
    Matrix,
    Samples,
    Windows,
)
from hearloop.streaming.voice import VoiceActivity

__all__ = ["CHUNK_FRAMES", "Chunk", "Chunker", "covered"]

CHUNK_FRAMES: Final = 4 * DOWNSAMPLING
"""Feature frames (160 ms) of a step of the default family; see `Shape.chunk_frames`."""
_PREROLL: Final = 48
"""Frames (480 ms) that an utterance at least begins with: the detector is late, and the network
was trained on recordings with a pause before the first word."""
_LEAD: Final = (WINDOW - HOP) // 2
"""Samples before a span's first frame of its own: they are shared with the span before."""


def covered(frames: int) -> int:
    """Samples that the windows of so many frames cover."""
    return (frames - 1) * HOP + WINDOW


@dataclass(kw_only=True, slots=True)  # not frozen: six of them a second and stream are made
class Chunk:
    """Input of one stream for one step of the graph."""

    rows: Matrix
    """(`chunk_frames`, bins) features; fewer where a network that hears whole utterances ends."""
    begin_s: float
    """Seconds of the stream before the first row."""
    outputs: int
    """How many of its outputs count: what follows is only there to fill the chunk."""
    first: bool = False
    """Whether an utterance begins here: its states are zero."""


class Chunker:
    """Cuts the audio of one stream, recording by recording, into chunks.

    With a detector of voice, only what was spoken becomes chunks; else everything does.
    """

    def __init__(self, architecture: Shape, voice: VoiceActivity | None) -> None:
        self.pending: deque[Chunk] = deque()
        """Chunks that wait for the graph."""
        self.voice_s = 0.0
        """Where in the stream a voice was last heard."""
        self._architecture = architecture
        self._size = architecture.chunk_frames
        self._voice = voice
        self._recent: deque[Matrix] = deque(maxlen=-(-_PREROLL // self._size))
        self._samples = 0
        self.begin_recording()

    @property
    def empty(self) -> bool:
        """Whether the recording has no samples yet."""
        return self._samples == self._origin

    @property
    def heard_s(self) -> float:
        """Seconds of the stream whose frames have been taken."""
        return min(self._origin + self._taken * HOP, self._samples) / SAMPLE_RATE

    @property
    def missing(self) -> int:
        """Samples that have to arrive until the next chunk is complete."""
        return self._windows.missing(self._size)

    @property
    def exhausted(self) -> bool:
        """Whether all of a recording that was ended has gone through the graph."""
        return self._closed and not self.pending

    def begin_recording(self) -> None:
        """What follows is another recording: nothing before reaches into it."""
        self._windows = Windows()
        self._origin, self._taken = self._samples, 0
        self.ending = False
        """Whether the recording has been ended."""
        self._closed = False
        self._recent.clear()
        self.rest()

    def rest(self) -> None:
        """The utterance is over; wait for the next one."""
        self._active, self._fed = False, 0

    def accept(self, samples: Samples) -> None:
        """Take the next (n,) samples at 16 kHz of the recording."""
        self._windows.accept(samples)
        self._samples += len(samples)

    def end(self) -> None:
        """Say that the recording has no more audio."""
        self._windows.finish()
        self.ending = True
        if not self._windows.ready:
            self._close()

    def span(self) -> Samples | None:
        """Samples of the next chunk, None while they are not complete: (2800,) of 160 ms.

        Zeros fill up the last chunk of a recording. `take` is due with its features.
        """
        frames = min(self._windows.ready, self._size)
        if not frames or (frames < self._size and not self.ending):
            return None
        self._frames = frames
        span = self._windows.take(frames)
        missing = covered(self._size) - len(span)
        return np.pad(span, (0, missing)) if missing else span  # np.pad takes time for nothing too

    def take(self, rows: Matrix, span: Samples) -> None:
        """Take the log-mel features (`chunk_frames`, 80) of the span."""
        begin_s = (self._origin + self._taken * HOP) / SAMPLE_RATE
        self._taken += self._frames
        rows = rows[: self._frames]
        own = span[_LEAD : _LEAD + self._size * HOP]
        voiced = self._voice is None or self._heard_voice(own, rows, begin_s)
        if self._architecture.bins == HOP:
            rows = own.reshape(-1, HOP)[: self._frames]
        self._recent.append(rows)
        if self._active:
            self._feed(rows, begin_s)
        elif voiced:
            self._active = True
            kept = list(self._recent) if self._voice else [rows]
            begin_s -= FRAME_SECONDS * sum(len(before) for before in kept[:-1])
            for each in kept:
                self._feed(each, begin_s)
                begin_s += FRAME_SECONDS * len(each)
        if self.ending and not self._windows.ready:
            self._close()

    def _heard_voice(self, samples: Samples, rows: Matrix, begin_s: float) -> bool:
        assert self._voice
        last = self._voice.last_voice(samples, rows)
        if last is not None:
            self.voice_s = begin_s + last / SAMPLE_RATE
        return last is not None

    def _feed(self, rows: Matrix, begin_s: float) -> None:
        """Whole chunks wait for the graph; a shorter one, the last, for its tail."""
        if len(rows) == self._size:
            self._wait(rows, begin_s, self._size // DOWNSAMPLING)

    def _wait(self, rows: Matrix, begin_s: float, outputs: int) -> None:
        chunk = Chunk(rows=rows, begin_s=begin_s, outputs=outputs, first=not self._fed)
        self.pending.append(chunk)
        self._fed += len(rows)

    def _close(self) -> None:
        """Let the tail follow the last frames of an utterance that the end cuts off."""
        self._closed = True
        if not self._active and (self._voice or self.empty):
            return
        shape, size = self._architecture, self._size
        rest = self._recent[-1] if self._taken % size else np.empty((0, shape.bins), np.float32)
        begin_s = (self._origin + (self._taken - len(rest)) * HOP) / SAMPLE_RATE
        if not shape.streaming:  # the recogniser adds the tail
            self._wait(rest, begin_s, 0)
            return
        frames = shape.padded_frames(self._fed + len(rest)) - self._fed
        rows = np.full((-(-frames // size) * size, shape.bins), shape.silence, np.float32)
        rows[: len(rest)] = rest
        for at in range(0, len(rows), size):
            outputs = min(frames - at, size) // DOWNSAMPLING
            self._wait(rows[at : at + size], begin_s + at * FRAME_SECONDS, outputs)
