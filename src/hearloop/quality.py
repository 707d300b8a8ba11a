"""The signals of an utterance that need no transcript, each defined here and nowhere else.

Ingestion measures them for training, the server for every request, and the monitor compares the
two: a difference is a difference between callers, never between definitions.
"""

from dataclasses import dataclass

import librosa
import numpy as np
from numpy.typing import NDArray

from hearloop.audio import SAMPLE_RATE, Samples

__all__ = ["SIGNALS", "Quality", "Signal", "measure", "speaking_rate"]

_FRAME = 512
_HOP = 256
"""Frames of 32 ms every 16 ms, short enough to fall between two syllables."""

_QUIETEST_DBFS = -96.0
"""The level of one 16-bit step: what is below it cannot have been recorded."""
_SPEECH_RANGE_DB = 40.0
"""Conversational speech stays within this below its loudest frame; what is lower is silence."""
_BAND_RANGE_DB = 45.0
"""A telephone line leaves less than this above its band; the hiss of an s is well above it."""
_NOISE_PERCENTILE = 5
"""Of the frames, those between words: on synthetic calls of 10 to 50 dB within 1 dB of the truth,
where the 20th percentile saturates at 16 dB."""
_FULL_SCALE = 0.999


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What is measured of an utterance: its name, its unit, and how it is computed."""

    name: str
    unit: str
    description: str


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The signals of one utterance; SIGNALS tells what each one means."""

    duration_s: float
    snr_db: float
    bandwidth_hz: float
    loudness_dbfs: float
    clipping: float
    silence: float


SIGNALS = (
    Signal(name="duration_s", unit="s", description="Length of the recording."),
    Signal(
        name="snr_db",
        unit="dB",
        description="Mean power less that of the 5th percentile of frames, which is the noise, to "
        "the power of the noise; at least 0.",
    ),
    Signal(
        name="bandwidth_hz",
        unit="Hz",
        description="Highest frequency at which the mean power spectrum is within 45 dB of its "
        "peak.",
    ),
    Signal(
        name="loudness_dbfs",
        unit="dBFS",
        description="RMS level of the frames that are not silent, to full scale.",
    ),
    Signal(name="clipping", unit="share", description="Samples at full scale."),
    Signal(
        name="silence",
        unit="share",
        description="Frames 40 dB or more below the loudest one, or below one 16-bit step.",
    ),
    Signal(
        name="speaking_rate",
        unit="characters/s",
        description="Letters of the transcript for each second of the recording.",
    ),
)


def measure(samples: Samples) -> Quality:
    """Measure an utterance: float32 samples (n,) at 16 kHz, n > 0."""
    whole = np.pad(samples, (0, max(0, _FRAME - len(samples))))
    levels = _levels(whole)
    loud = levels > max(levels.max() - _SPEECH_RANGE_DB, _QUIETEST_DBFS)
    return Quality(
        duration_s=len(samples) / SAMPLE_RATE,
        snr_db=_snr(levels),
        bandwidth_hz=_bandwidth(whole),
        loudness_dbfs=_mean_level(levels[loud]) if loud.any() else _QUIETEST_DBFS,
        clipping=float(np.mean(np.abs(samples) >= _FULL_SCALE)),
        silence=float(np.mean(~loud)),
    )


def speaking_rate(text: str, seconds: float) -> float:
    """Letters of a normalised transcript for each second of its recording."""
    return len(text.replace(" ", "").replace("'", "")) / seconds


def _levels(samples: Samples) -> NDArray[np.float64]:
    """RMS level of each frame in dB to full scale, none below _QUIETEST_DBFS."""
    rms = librosa.feature.rms(y=samples, frame_length=_FRAME, hop_length=_HOP, center=False)[0]
    return 20 * np.log10(np.maximum(rms.astype(np.float64), 10 ** (_QUIETEST_DBFS / 20)))


def _mean_level(levels: NDArray[np.float64]) -> float:
    return float(10 * np.log10(np.mean(10 ** (levels / 10))))


def _snr(levels: NDArray[np.float64]) -> float:
    """0 dB at least: nothing stands out of a recording that is all noise."""
    noise = 10 ** (np.percentile(levels, _NOISE_PERCENTILE) / 10)
    speech = np.mean(10 ** (levels / 10)) - noise
    return float(10 * np.log10(max(speech / noise, 1.0)))


def _bandwidth(samples: Samples) -> float:
    spectrum = np.abs(librosa.stft(samples, n_fft=_FRAME, hop_length=_HOP, pad_mode="constant"))
    power = np.mean(spectrum**2, axis=1)
    heard = np.flatnonzero(power > max(power.max(), 1e-12) * 10 ** (-_BAND_RANGE_DB / 10))
    return float(heard[-1] * SAMPLE_RATE / _FRAME) if len(heard) else 0.0
