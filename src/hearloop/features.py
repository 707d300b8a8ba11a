"""Log-mel features: the same code for training, for whole recordings and for live streams.

The filter bank is Kaldi's, with the values that lhotse's `Fbank()` and sherpa-onnx use as well, so
that a model trained here understands what they compute. The frames of many streams are
transformed at once, by scipy where it is installed: it takes several at a time, an eighth of
numpy's time.
Normalisation is not done here: mean and deviation are part of the network.
"""

import hashlib
import json
from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

try:
    from scipy.fft import rfft
except ModuleNotFoundError:  # the images of servers do without scipy's 140 MB
    from numpy.fft import rfft  # type: ignore[no-redef]

__all__ = [
    "CONFIGURATION",
    "FLOOR",
    "FRAME_SECONDS",
    "HOP",
    "MEL_BINS",
    "SAMPLE_RATE",
    "WINDOW",
    "LogMelStream",
    "Matrix",
    "Samples",
    "Windows",
    "configuration_digest",
    "cut",
    "log_mel",
    "log_mel_windows",
    "mel_centres",
]

Samples = npt.NDArray[np.float32]
"""Mono audio, shape (samples,), in the range -1 to 1."""
Matrix = npt.NDArray[np.float32]
"""A matrix whose rows are frames."""

SAMPLE_RATE: Final = 16_000
"""Samples a second of everything we keep: wideband speech, as all of its models expect."""
MEL_BINS: Final = 80
FRAME_SECONDS: Final = 0.010
"""Distance between frames; each covers 25 ms."""
HOP: Final = 160
"""Samples between the beginnings of two windows."""
WINDOW: Final = 400
"""Samples of a window, 25 ms."""
_LEAD: Final = (WINDOW - HOP) // 2
"""Samples by which the first window begins before the recording."""
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


def _mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return 1127.0 * np.log1p(np.asarray(hertz, np.float64) / 700.0)


def _edges() -> npt.NDArray[np.float64]:
    """In mel: lower edge of the lowest bin, centre of each bin, upper edge of the highest."""
    low, high = (_mel(float(CONFIGURATION[edge])) for edge in ("low_hz", "high_hz"))
    return np.linspace(low, high, MEL_BINS + 2)


def mel_centres() -> npt.NDArray[np.float64]:
    """Centre frequency in Hz of each of the 80 mel bins."""
    return 700.0 * np.expm1(_edges()[1:-1] / 1127.0)


_FFT: Final = 512
"""Points of the Fourier transform: the next power of two above a window."""


def _triangles() -> npt.NDArray[np.float32]:
    """Weights (257, 80) of the points of a power spectrum in each bin."""
    edges = _edges()
    points = _mel(np.arange(_FFT // 2 + 1) * SAMPLE_RATE / _FFT)[:, None]
    rising = (points - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - points) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


_TRIANGLES: Final = _triangles()
_POVEY: Final = np.power(
    0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / (WINDOW - 1)), 0.85
).astype(np.float32)
_PREEMPHASIS: Final = np.float32(CONFIGURATION["preemphasis"])
_SMALLEST: Final = np.finfo(np.float32).eps
_BLOCK: Final = 128
"""Windows that are transformed at a time: what a core's cache holds."""
_ROWS: Final = 8
"""Windows in a product of matrices: so few that the linear algebra library starts no threads,
which would cost ten times what they save and take the cores from others."""


def log_mel_windows(windows: npt.NDArray[np.float32]) -> Matrix:
    """Log-mel energies (n, 80) of windows (n, 400), of one recording or of many streams."""
    energies = np.empty((len(windows), MEL_BINS), np.float32)
    for at in range(0, len(windows), _BLOCK):
        _transform(windows[at : at + _BLOCK], energies[at : at + _BLOCK])
    return energies


def _transform(windows: npt.NDArray[np.float32], energies: Matrix) -> None:
    # The first point of the window function is 0: what follows begins at the second sample, which
    # changes the phases alone.
    shaped = windows[:, 1:] - _PREEMPHASIS * windows[:, :-1]
    shaped -= (1 - _PREEMPHASIS) * windows.mean(axis=1, keepdims=True)
    shaped *= _POVEY[1:]
    spectrum = rfft(shaped, _FFT, axis=1)
    parts = spectrum.view(np.float32)  # real and imaginary in turns
    np.square(parts, out=parts)
    powers = parts[:, ::2] + parts[:, 1::2]
    whole = len(powers) // _ROWS * _ROWS
    np.matmul(
        powers[:whole].reshape(-1, _ROWS, powers.shape[1]),
        _TRIANGLES,
        out=energies[:whole].reshape(-1, _ROWS, MEL_BINS),
    )
    np.matmul(powers[whole:], _TRIANGLES, out=energies[whole:])
    np.log(np.maximum(energies, _SMALLEST, out=energies), out=energies)


class Windows:
    """Cuts audio that arrives piece by piece into the windows of its frames.

    Frame i is about the samples from 160 i on. Beyond its ends a recording is mirrored.
    """

    def __init__(self) -> None:
        self._held = np.empty(0, np.float32)
        """Samples from the first one of the next window on, the mirrored ones included."""
        self._samples = 0
        self._frames = 0
        self._mirrored = self._ended = False

    @property
    def ready(self) -> int:
        """Frames whose windows are complete and have not been taken."""
        if self._ended:
            return (self._samples + HOP // 2) // HOP - self._frames
        if not self._mirrored:
            return 0
        return max(0, (len(self._held) - WINDOW) // HOP + 1)

    def accept(self, samples: Samples) -> None:
        """Take the next (n,) samples at 16 kHz."""
        self._samples += len(samples)
        self._held = np.concatenate([self._held, samples], dtype=np.float32)
        if not self._mirrored and self._samples >= _LEAD:
            self._held = np.concatenate([self._held[:_LEAD][::-1], self._held])
            self._mirrored = True

    def finish(self) -> None:
        """Say that no audio follows: the frames that were held back become ready."""
        self._ended = True
        if self.ready:
            lead = 0 if self._mirrored else _LEAD
            missing = (self.ready - 1) * HOP + WINDOW - lead - len(self._held)
            self._held = np.pad(self._held, (lead, max(0, missing)), mode="symmetric")

    def missing(self, frames: int) -> int:
        """Samples that have to arrive until `frames` frames are ready, unless the audio ends."""
        lead = 0 if self._mirrored else _LEAD
        return max(0, (frames - 1) * HOP + WINDOW - lead - len(self._held))

    def take(self, frames: int) -> Samples:
        """The samples that the windows of the next frames cover; as many must be ready."""
        span = self._held[: (frames - 1) * HOP + WINDOW]
        self._held = self._held[frames * HOP :]
        self._frames += frames
        return span


def cut(spans: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Spans (..., s) of `Windows.take` as windows (..., frames, 400), without a copy."""
    return sliding_window_view(spans, WINDOW, axis=-1)[..., ::HOP, :]


class LogMelStream:
    """Log-mel frames of audio that arrives piece by piece.

    However the audio is cut into pieces, the frames are those of `log_mel` of the whole, but for
    the rounding of float32.
    """

    def __init__(self) -> None:
        self._windows = Windows()

    def accept(self, samples: Samples) -> Matrix:
        """Take (n,) samples; return the (t, 80) frames that became complete, t may be 0."""
        self._windows.accept(samples)
        return self._ready()

    def finish(self) -> Matrix:
        """Say that no audio follows; return the (t, 80) frames that were still held back."""
        self._windows.finish()
        return self._ready()

    def _ready(self) -> Matrix:
        ready = self._windows.ready
        return log_mel_windows(cut(self._windows.take(ready))) if ready else _NOTHING.copy()


_NOTHING: Final = np.empty((0, MEL_BINS), np.float32)


def log_mel(samples: Samples) -> Matrix:
    """Log-mel energies of (n,) samples at 16 kHz: shape (round(n / 160), 80), float32."""
    stream = LogMelStream()
    return np.concatenate([stream.accept(samples), stream.finish()])
