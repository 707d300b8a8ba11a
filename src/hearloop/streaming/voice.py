"""Voice activity: WebRTC's detector, which costs a stream a ten-thousandth of a core."""

from typing import Final

import numpy as np
import numpy.typing as npt
import webrtcvad

from hearloop.features import SAMPLE_RATE, Samples

__all__ = ["FRAME", "VoiceActivity"]

FRAME: Final = SAMPLE_RATE // 50
"""Samples of 20 ms: the detector takes 10, 20 or 30."""
_STRICTNESS: Final = 2
"""0 to 3: what is no voice is not recognised at all, and words are worth more than time."""
_LOUDEST: Final = 32767


class VoiceActivity:
    """Tells voice from silence and from steady noise in one stream."""

    def __init__(self) -> None:
        self._detector = webrtcvad.Vad(_STRICTNESS)

    def frames(self, samples: Samples) -> npt.NDArray[np.bool_]:
        """Whether there is a voice in each whole 20 ms of the next (n,) samples."""
        pcm = (np.clip(samples, -1.0, 1.0) * _LOUDEST).astype(np.int16).tobytes()
        ends = range(2 * FRAME, len(pcm) + 1, 2 * FRAME)
        return np.array(
            [self._detector.is_speech(pcm[end - 2 * FRAME : end], SAMPLE_RATE) for end in ends],
            dtype=bool,
        )

    def last_voice(self, samples: Samples) -> int | None:
        """Where in the next (n,) samples a voice was last heard; None when there was none."""
        voiced = np.flatnonzero(self.frames(samples))
        return (int(voiced[-1]) + 1) * FRAME if len(voiced) else None
