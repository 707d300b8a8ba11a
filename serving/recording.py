"""What a live stream has said since its last final result, and when it arrived."""

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hearloop.audio import SAMPLE_RATE, Samples

__all__ = ["Recording"]

LONGEST_S: Final = 45.0
"""Of what is kept for the log, 1.4 MB: more than the longest utterance that is recognised."""

SCALE: Final = np.float32(32768)


class Recording:
    """The end of a stream as 16-bit samples; the beginning is forgotten as it is answered."""

    def __init__(self) -> None:
        self._parts: deque[NDArray[np.int16]] = deque()
        self._begin = 0
        """Number of the first sample that is held."""
        self._end = 0
        self._arrivals: deque[tuple[int, float]] = deque()
        """Last sample of each piece, and when it came."""
        self._answered = 0

    @property
    def total_s(self) -> float:
        """Seconds of the stream so far."""
        return self._end / SAMPLE_RATE

    @property
    def held_s(self) -> float:
        """Seconds since the last answer."""
        return (self._end - self._answered) / SAMPLE_RATE

    def add(self, samples: Samples, now: float) -> None:
        """Take the next (n,) samples, which came at `now`."""
        scaled = samples * SCALE
        np.minimum(scaled, 32767, out=scaled)  # two of these take half of the time of np.clip
        pcm = np.maximum(scaled, -32768, out=scaled).astype(np.int16)
        self._parts.append(pcm)
        self._end += len(pcm)
        self._arrivals.append((self._end, now))
        self._forget(self._end - int(LONGEST_S * SAMPLE_RATE))

    def arrived(self, second: float) -> float:
        """When the sample at that second of the stream came; that of the oldest known before."""
        sample, found = second * SAMPLE_RATE, 0.0
        for end, at in reversed(self._arrivals):  # it is asked for what came just now
            if end < sample and found:
                break
            found = at
        return found

    def take(self, start_s: float, end_s: float) -> Samples:
        """The samples of an answered utterance, empty if its beginning is forgotten already."""
        start, end = int(start_s * SAMPLE_RATE), int(end_s * SAMPLE_RATE)
        whole = start >= self._begin
        held = np.concatenate(self._parts) if self._parts else np.empty(0, np.int16)
        taken = held[max(0, start - self._begin) : max(0, end - self._begin)]
        self._answered = max(self._answered, end)
        self._forget(end)
        return taken.astype(np.float32) / SCALE if whole else np.empty(0, np.float32)

    def _forget(self, before: int) -> None:
        while self._parts and self._begin + len(self._parts[0]) <= before:
            self._begin += len(self._parts.popleft())
        while len(self._arrivals) > 1 and self._arrivals[0][0] <= self._begin:
            self._arrivals.popleft()
