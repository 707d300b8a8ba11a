"""Voice activity: WebRTC's detector, which costs a stream a ten-thousandth of a core.

It takes loud steady noise for a voice, and the beginning of any sound, so what it hears counts
only where the loudness changes as it does between the sounds of speech, and where the loud sounds
have a colour, as vowels have and the click of a key has not.
"""

from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt
import webrtcvad

from hearloop.features import SAMPLE_RATE, Matrix, Samples

__all__ = ["FRAME", "VoiceActivity", "speechless"]

FRAME: Final = SAMPLE_RATE // 50
"""Samples of 20 ms: the detector takes 10, 20 or 30."""
_STRICTNESS: Final = 2
"""0 to 3: what is no voice is not recognised at all, and words are worth more than time."""
_LOUDEST: Final = 32767
_FEWEST: Final = 6
"""Voiced frames (120 ms) in two chunks: a short syllable has more, a click has fewer."""
_WINDOW: Final = 48
"""Feature frames (480 ms) over which a sound is watched: a syllable and the gap beside it."""
_CHUNKS: Final = 3
"""As many chunks of 16 frames."""
STEADY: Final = 0.64
"""Nats by which the loudness (mean log energy) of a tenth of the frames is below that of another
tenth. In steady noise, hum and dial tones, their onsets included, it is 0.1 to 0.45; in speech
1.4 and more, and 0.7 to 1.4 where noise is as loud as the speech."""
COLOURLESS: Final = 0.5
"""Deviation, in nats, of the mean log energies of loud frames from a straight line over the bins
of the telephone band. Keypresses have 0.15 to 0.4, speech 1.2 to 1.6, and 0.45 to 0.8 in noise of
a third of its power."""
_BAND: Final = slice(10, 50)
"""Mel bins from 350 to 2600 Hz."""


def _untilted() -> Matrix:
    """The projection (40, 40) that takes a straight line off the energies of the band."""
    bins = np.arange(_BAND.stop - _BAND.start)
    line = np.stack([np.ones(len(bins)), bins], axis=1)
    return (np.eye(len(bins)) - line @ np.linalg.pinv(line)).astype(np.float32)


_UNTILTED: Final = _untilted()


class VoiceActivity:
    """Tells voice from silence and from steady noise in one stream."""

    def __init__(self) -> None:
        self._detector = webrtcvad.Vad(_STRICTNESS)
        self._recent: deque[Matrix] = deque(maxlen=_CHUNKS)
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
        self._recent.append(rows)
        if not len(voiced) or count < _FEWEST or _no_speech(np.concatenate(self._recent)):
            return None
        return (int(voiced[-1]) + 1) * FRAME


def speechless(rows: Matrix) -> bool:
    """Whether log-mel features (t, 80) are nowhere like speech: steady, or mere clicks."""
    starts = range(0, max(min(1, len(rows)), len(rows) - _WINDOW // 3), _WINDOW // 3)
    return all(_no_speech(rows[at : at + _WINDOW]) for at in starts)


def _no_speech(window: Matrix) -> bool:
    """Of one window of features (t, 80)."""
    loudness = window.mean(axis=1)
    ranked = np.sort(loudness)
    tenth = len(ranked) // 10
    if ranked[-1 - tenth] - ranked[tenth] < STEADY:
        return True
    loud = window[loudness >= ranked[len(ranked) // 2], _BAND]
    return float((_UNTILTED @ loud.mean(axis=0)).std()) < COLOURLESS
