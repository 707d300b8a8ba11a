"""Recordings of any length in bounded memory: cut at pauses, recognised a few minutes at a time."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from hearloop.decoding import Transcript, later, transcript
from hearloop.features import MEL_BINS, SAMPLE_RATE, Samples, log_mel
from hearloop.hotwords import Hotword
from hearloop.recogniser import Recogniser
from hearloop.streaming.voice import FRAME, VoiceActivity, speechless

__all__ = ["LongTranscript", "Segment", "transcribe_long"]

_FRAME_S: Final = FRAME / SAMPLE_RATE
_PAUSE: Final = round(0.5 / _FRAME_S)
"""Frames without a voice that end a segment."""
_MARGIN: Final = round(0.3 / _FRAME_S)
"""Frames of the pause that stay with the segment, on either side: soft sounds are no voice yet."""
_LONGEST: Final = round(30.0 / _FRAME_S)
"""Frames of the longest segment; without a pause it is cut where it is quietest."""
_SEARCHED: Final = round(10.0 / _FRAME_S)
"""Frames at the end of an overlong segment among which the quietest is sought."""
_BLUR: Final = round(0.1 / _FRAME_S)
"""Frames over which quietness is measured."""
_GATHERED_S: Final = 60.0
"""Audio that is recognised together: full batches in 4 MB."""
_AHEAD: Final = 3
"""Groups that wait or are being recognised while the next one is read."""


@dataclass(frozen=True, kw_only=True)
class _Spoken:
    """A part of a recording between two pauses."""

    start_s: float
    samples: Samples


@dataclass(frozen=True, kw_only=True)
class Segment:
    """What was said between two pauses; times are seconds of the recording."""

    start_s: float
    end_s: float
    transcript: Transcript


@dataclass(frozen=True, kw_only=True)
class LongTranscript:
    """What was said in a long recording."""

    segments: tuple[Segment, ...]
    """Those with words, in order."""
    seconds: float
    """Length of the recording."""

    @property
    def transcript(self) -> Transcript:
        """All of it in one piece."""
        return transcript([word for one in self.segments for word in one.transcript.words])


def transcribe_long(
    recogniser: Recogniser,
    blocks: Iterable[Samples],
    *,
    hotwords: Sequence[Hotword] = (),
    on_progress: Callable[[float], None] = lambda seconds: None,
    on_segment: Callable[[Segment, Samples], None] = lambda segment, samples: None,
    threads: int | None = None,
) -> LongTranscript:
    """Transcribe a recording that comes in blocks (n,) of samples at 16 kHz.

    Args:
        recogniser: may serve others at the same time.
        blocks: of any length, which does not change the result; no more than a
            few minutes of the recording are held, besides what `blocks` itself holds.
        hotwords: phrases to expect.
        on_progress: called with the seconds of the recording that are done.
        on_segment: called with each segment, in order, and its samples (n,).
        threads: that work at the same time; as many as there are cores unless given.
    """
    cutter = _Cutter()
    segments: list[Segment] = []
    running: deque[Future[list[tuple[Segment, Samples]]]] = deque()

    def take() -> None:
        for segment, samples in running.popleft().result():
            segments.append(segment)
            on_segment(segment, samples)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for group in _grouped(cutter.segments(blocks)):
            running.append(pool.submit(_transcribe, recogniser, group, hotwords))
            while len(running) > _AHEAD:
                take()
            on_progress(cutter.seconds)
        while running:
            take()
    on_progress(cutter.seconds)
    return LongTranscript(segments=tuple(segments), seconds=cutter.seconds)


def _grouped(spoken: Iterable[_Spoken]) -> Iterator[list[_Spoken]]:
    group: list[_Spoken] = []
    for one in spoken:
        group.append(one)
        if sum(len(each.samples) for each in group) >= _GATHERED_S * SAMPLE_RATE:
            yield group
            group = []
    if group:
        yield group


def _transcribe(
    recogniser: Recogniser, group: Sequence[_Spoken], hotwords: Sequence[Hotword]
) -> list[tuple[Segment, Samples]]:
    features = [recogniser.features(one.samples) for one in group]
    spoken = [
        number
        for number, rows in enumerate(features)
        if not speechless(rows if rows.shape[1] == MEL_BINS else log_mel(group[number].samples))
    ]
    rows = [features[number] for number in spoken]
    said = recogniser.transcribe_features(rows, hotwords=hotwords)
    return [
        (
            Segment(
                start_s=one.start_s,
                end_s=one.start_s + len(one.samples) / SAMPLE_RATE,
                transcript=transcript([later(word, one.start_s) for word in found.words]),
            ),
            one.samples,
        )
        for one, found in zip((group[number] for number in spoken), said, strict=True)
        if found.words
    ]


class _Cutter:
    """Finds the spoken parts of a recording, frame by frame of 20 ms."""

    def __init__(self) -> None:
        self._samples = 0
        self._voice = VoiceActivity()
        self._held: list[Samples] = []
        self._first = 0
        """Number of the first frame that is held."""
        self._quiet = 0
        self._speaking = False

    @property
    def seconds(self) -> float:
        """How much of the recording has been seen."""
        return self._samples / SAMPLE_RATE

    def segments(self, blocks: Iterable[Samples]) -> Iterator[_Spoken]:
        """The spoken parts, in order."""
        rest = np.empty(0, np.float32)
        for block in blocks:
            samples = np.concatenate([rest, block], dtype=np.float32)
            whole = len(samples) // FRAME * FRAME
            rest = samples[whole:]
            yield from self._accept(samples[:whole])
            self._samples += len(block)
        if self._speaking:
            self._held.append(rest)
            yield self._cut(len(self._held))

    def _accept(self, samples: Samples) -> Iterator[_Spoken]:
        frames = samples.reshape(-1, FRAME)
        for frame, voiced in zip(frames, self._voice.frames(samples), strict=True):
            self._held.append(frame)
            self._quiet = 0 if voiced else self._quiet + 1
            if voiced:
                self._speaking = True
            elif not self._speaking:
                self._drop(len(self._held) - _MARGIN)
            elif self._quiet >= _PAUSE:
                yield self._cut(len(self._held) - _PAUSE + _MARGIN)
                self._speaking = False
            if self._speaking and len(self._held) >= _LONGEST:
                yield self._cut(self._quietest())

    def _quietest(self) -> int:
        """Middle of the quietest tenth of a second among the frames that are searched."""
        energy = [float(np.dot(frame, frame)) for frame in self._held[-_SEARCHED:]]
        around = np.convolve(energy, np.ones(_BLUR), mode="valid")
        return len(self._held) - len(energy) + int(around.argmin()) + _BLUR // 2

    def _cut(self, at: int) -> _Spoken:
        spoken = _Spoken(
            start_s=round(self._first * _FRAME_S, 3), samples=np.concatenate(self._held[:at])
        )
        self._drop(at)
        return spoken

    def _drop(self, frames: int) -> None:
        if frames > 0:
            del self._held[:frames]
            self._first += frames
