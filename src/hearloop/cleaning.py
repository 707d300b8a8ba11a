"""What may be done to recordings before anything learns from them, where a recipe asks for it.

What servers hear is not cleaned. The effect on the WER of each option is in docs/speech.md, with
the command that measures it.
"""

import numpy as np
import webrtcvad

from hearloop.audio import SAMPLE_RATE, Samples
from hearloop.errors import ConfigurationError, InvalidAudio
from hearloop.recipe import Cleaning

__all__ = ["clean", "reduce_noise", "trim_silence"]

_FRAME = 480
"""Samples of a decision: 30 ms, the longest that WebRTC's detector takes."""
_STRICT = 2
"""Of its modes 0 to 3: noise is taken for speech now and then, speech for noise hardly ever."""
_MARGIN = SAMPLE_RATE // 5
"""What is kept before the first speech and after the last: the detector misses soft beginnings."""


def clean(samples: Samples, cleaning: Cleaning) -> Samples:
    """(n,) samples as the options say. Raises InvalidAudio where nobody speaks."""
    if cleaning.trim_silence:
        samples = trim_silence(samples)
    if cleaning.reduce_noise:
        samples = reduce_noise(samples)
    return samples


def trim_silence(samples: Samples) -> Samples:
    """Without what comes 0.2 s before the first speech and after the last.

    Raises InvalidAudio where there is no speech at all.
    """
    detector = webrtcvad.Vad(_STRICT)
    pcm = (np.clip(samples, -1.0, 1.0) * 32767).astype("<i2")
    frames = [pcm[at : at + _FRAME] for at in range(0, len(pcm) - _FRAME + 1, _FRAME)]
    spoken = [n for n, one in enumerate(frames) if detector.is_speech(one.tobytes(), SAMPLE_RATE)]
    if not spoken:
        raise InvalidAudio("Nobody speaks in the recording; leave it out.")
    begin, end = spoken[0] * _FRAME - _MARGIN, (spoken[-1] + 1) * _FRAME + _MARGIN
    return samples[max(0, begin) : end]


def reduce_noise(samples: Samples) -> Samples:
    """Spectral gating that follows the noise. Raises ConfigurationError without noisereduce."""
    try:
        import noisereduce
    except ImportError as error:
        raise ConfigurationError(
            "The recipe reduces noise and noisereduce is not installed; pip install "
            "'hearloop[cleaning]'."
        ) from error
    reduced = noisereduce.reduce_noise(y=samples, sr=SAMPLE_RATE, stationary=False)
    return np.asarray(reduced, np.float32)
