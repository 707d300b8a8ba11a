"""Log-mel features: the same code for training, for whole recordings and for live streams.

The filter bank is Kaldi's, computed by kaldi-native-fbank with the values that lhotse's `Fbank()`
and sherpa-onnx use as well, so that a model trained here understands what they compute.
Normalisation is not done here: mean and deviation are part of the network.
"""

import hashlib
import json
from typing import Final

import kaldi_native_fbank as knf
import numpy as np
import numpy.typing as npt

__all__ = [
    "CONFIGURATION",
    "FLOOR",
    "FRAME_SECONDS",
    "MEL_BINS",
    "SAMPLE_RATE",
    "LogMelStream",
    "Matrix",
    "Samples",
    "configuration_digest",
    "log_mel",
    "mel_centres",
]

Samples = npt.NDArray[np.float32]
"""Mono audio, shape (samples,), in the range -1 to 1."""
Matrix = npt.NDArray[np.float32]
"""A matrix whose rows are frames."""

SAMPLE_RATE: Final = 16_000
"""Hz."""
MEL_BINS: Final = 80
FRAME_SECONDS: Final = 0.010
"""Distance between frames; each covers 25 ms."""
FLOOR: Final = float(np.log(np.finfo(np.float32).eps))
"""Log energy of digital silence in every bin (-15.94): Kaldi never goes below it."""

CONFIGURATION: Final[dict[str, float | str | bool]] = {
    "kind": "kaldi-log-mel",
    "sample_rate": SAMPLE_RATE,
    "bins": MEL_BINS,
    "frame_length_ms": 25.0,
    "frame_shift_ms": 10.0,
    "low_hz": 20.0,
    "high_hz": SAMPLE_RATE / 2 - 400.0,
    "window": "povey",
    "preemphasis": 0.97,
    "dither": 0.0,  # kaldi's own default of 1 would make features random
    "snip_edges": False,
}


def configuration_digest() -> str:
    """SHA-256 of the feature configuration, as hexadecimal: it names the feature archive."""
    return hashlib.sha256(json.dumps(CONFIGURATION, sort_keys=True).encode()).hexdigest()


def _options() -> knf.FbankOptions:
    options = knf.FbankOptions()
    frames, mel = options.frame_opts, options.mel_opts
    frames.samp_freq = CONFIGURATION["sample_rate"]
    frames.frame_length_ms = CONFIGURATION["frame_length_ms"]
    frames.frame_shift_ms = CONFIGURATION["frame_shift_ms"]
    frames.window_type = CONFIGURATION["window"]
    frames.preemph_coeff = CONFIGURATION["preemphasis"]
    frames.dither = CONFIGURATION["dither"]
    frames.snip_edges = CONFIGURATION["snip_edges"]
    mel.num_bins = CONFIGURATION["bins"]
    mel.low_freq = CONFIGURATION["low_hz"]
    mel.high_freq = CONFIGURATION["high_hz"]
    return options


class LogMelStream:
    """Log-mel frames of audio that arrives piece by piece.

    However the audio is cut into pieces, the frames are those of `log_mel` of the whole.
    """

    def __init__(self) -> None:
        self._bank = knf.OnlineFbank(_options())
        self._given = 0

    def accept(self, samples: Samples) -> Matrix:
        """Take (n,) samples; return the (t, 80) frames that became complete, t may be 0."""
        # Copies to float32: the library takes nothing else, and reads a list a sample at a time.
        self._bank.accept_waveform(SAMPLE_RATE, np.ascontiguousarray(samples, dtype=np.float32))
        return self._ready()

    def finish(self) -> Matrix:
        """Say that no audio follows; return the (t, 80) frames that were still held back."""
        self._bank.input_finished()
        return self._ready()

    def _ready(self) -> Matrix:
        until = self._bank.num_frames_ready
        frames = np.empty((until - self._given, MEL_BINS), np.float32)
        for row, index in enumerate(range(self._given, until)):
            frames[row] = self._bank.get_frame(index)
        self._bank.pop(until - self._given)  # keeps a long stream's memory flat
        self._given = until
        return frames


def log_mel(samples: Samples) -> Matrix:
    """Log-mel energies of (n,) samples at 16 kHz: shape (round(n / 160), 80), float32."""
    stream = LogMelStream()
    return np.concatenate([stream.accept(samples), stream.finish()])


def mel_centres() -> npt.NDArray[np.float64]:
    """Centre frequency in Hz of each of the 80 mel bins."""
    low, high = (
        1127.0 * np.log1p(float(CONFIGURATION[edge]) / 700.0) for edge in ("low_hz", "high_hz")
    )
    mels = np.linspace(low, high, MEL_BINS + 2)[1:-1]
    return 700.0 * np.expm1(mels / 1127.0)
