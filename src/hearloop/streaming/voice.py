"""Voice activity: WebRTC's detector, which costs a stream a ten-thousandth of a core.

It takes loud steady noise for a voice, and the beginning of any sound, so what it hears counts
only where the loudness changes as it does between the sounds of speech.
"""

from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt
import webrtcvad

from hearloop.features import SAMPLE_RATE, Matrix, Samples

__all__ = ["FRAME", "VoiceActivity", "steady"]

FRAME: Final = SAMPLE_RATE // 50
"""Samples of 20 ms: the detector takes 10, 20 or 30."""
_STRICTNESS: Final = 2
"""0 to 3: what is no voice is not recognised at all, and words are worth more than time."""
_LOUDEST: Final = 32767
_FEWEST: Final = 6
"""Voiced frames (120 ms) in two chunks: a short syllable has more, a click has fewer."""
_WINDOW: Final = 48
"""Feature frames (480 ms) over which loudness is watched: a syllable and the gap beside it."""
STEADY: Final = 0.25
"""Deviation of the mean log energy in nats. In steady noise, hum and dial tones it is 0.07 to
0.15, in speech 0.8 and more, and 0.3 to 0.5 where noise is as loud as the speech."""


class VoiceActivity:
    """Tells voice from silence and from steady noise in one stream."""

    def __init__(self) -> None:
        self._detector = webrtcvad.Vad(_STRICTNESS)
        self._loudness: deque[float] = deque(maxlen=_WINDOW)
        self._before = 0

    def frames(self, samples: Samples) -> npt.NDArray[np.bool_]:
        """Whether the detector hears a voice in each whole 20 ms of the next (n,) samples."""
        pcm = (np.clip(samples, -1.0, 1.0) * _LOUDEST).astype(np.int16).tobytes()
        ends = range(2 * FRAME, len(pcm) + 1, 2 * FRAME)
        return np.array(
            [self._detector.is_speech(pcm[end - 2 * FRAME : end], SAMPLE_RATE) for end in ends],
            dtype=bool,
        )

    def last_voice(self, samples: Samples, rows: Matrix) -> int | None:
        """Where in the next (n,) samples, with features `rows`, a voice was last heard.

        None when there was none: too short for a syllable, or as loud as what was before it.
        """
        voiced = np.flatnonzero(self.frames(samples))
        count, self._before = self._before + len(voiced), len(voiced)
        self._loudness.extend(rows.mean(axis=1).tolist())
        if not len(voiced) or count < _FEWEST or np.std(self._loudness) < STEADY:
            return None
        return (int(voiced[-1]) + 1) * FRAME


def steady(rows: Matrix) -> bool:
    """Whether log-mel features (t, 80) are steady throughout, as no speech is."""
    loudness = rows.mean(axis=1)
    pieces = [loudness[at : at + _WINDOW] for at in range(0, len(loudness), _WINDOW // 3)]
    return all(float(piece.std()) < STEADY for piece in pieces)
