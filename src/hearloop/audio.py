"""Decoding what strangers send, encoding what we keep, and the channels that speech comes by.

Samples are float32 in [-1, 1), mono, shape (n,), at SAMPLE_RATE.
"""

import hashlib
import io
from collections.abc import Callable

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.signal import butter, sosfilt

__all__ = [
    "SAMPLE_RATE",
    "Samples",
    "add_noise",
    "digest",
    "encode_flac",
    "telephone",
]

SAMPLE_RATE = 16_000
"""Samples a second of everything we keep: wideband speech, as all of its models expect."""

Samples = NDArray[np.float32]

_TELEPHONE_RATE = 8_000
_TELEPHONE_BAND_HZ = (300.0, 3400.0)
"""ITU-T G.712: the pass band of a telephone channel."""
_MU = 255.0
"""ITU-T G.711, mu-law."""

_NOISE_SHARES = {"white": 0.2, "pink": 0.4, "babble": 0.4}
"""Mean shares of power in the noise around a speaker."""
_BABBLE_VOICES = 5
_SWELL_STEP = SAMPLE_RATE // 100
_SYLLABLES_HZ = 4.0
"""Speech is modulated mostly at its syllable rate (Houtgast and Steeneken 1985)."""


def encode_flac(samples: Samples) -> bytes:
    """FLAC, 16 bit, 16 kHz, mono; equal samples give equal bytes, and decoding gives them back.

    Samples are rounded to multiples of 2**-15 and limited to [-1, 1).
    """
    pcm = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    body = io.BytesIO()
    soundfile.write(body, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return body.getvalue()


def digest(body: bytes) -> str:
    """SHA-256 in hexadecimal: the name of content."""
    return hashlib.sha256(body).hexdigest()


def telephone(samples: Samples) -> Samples:
    """What is left after a telephone line: 300 to 3400 Hz, 8 kHz, 8 bits by the mu-law of G.711."""
    narrow = soxr.resample(samples, SAMPLE_RATE, _TELEPHONE_RATE)
    sections = butter(4, _TELEPHONE_BAND_HZ, "bandpass", fs=_TELEPHONE_RATE, output="sos")
    narrow = np.clip(sosfilt(sections, narrow), -1.0, 1.0)
    compressed = np.sign(narrow) * np.log1p(_MU * np.abs(narrow)) / np.log1p(_MU)
    coded = np.rint(compressed * 127.0) / 127.0
    expanded = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(_MU)) / _MU
    wide = soxr.resample(expanded.astype(np.float32), _TELEPHONE_RATE, SAMPLE_RATE)
    return _of_length(wide.astype(np.float32), len(samples))


def add_noise(samples: Samples, snr_db: float, rng: np.random.Generator) -> Samples:
    """Add white, pink and babble-like noise in drawn shares, `snr_db` below the samples' power."""
    n = len(samples)
    shares = rng.dirichlet([10 * share for share in _NOISE_SHARES.values()])
    kinds = (rng.standard_normal(n), _pink(n, rng), _babble(n, rng))
    noise = sum(np.sqrt(share) * kind for share, kind in zip(shares, kinds, strict=True))
    power = float(np.mean(samples**2)) / 10 ** (snr_db / 10)
    scaled = noise * np.sqrt(power / max(float(np.mean(noise**2)), 1e-12))
    return (samples + scaled).astype(np.float32)


def _pink(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise whose power falls by 3 dB an octave, as room noise does; unit power."""
    return _shaped(n, rng, lambda hertz: 1 / np.sqrt(np.maximum(hertz, 50.0)))


def _babble(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Speech-shaped noise that swells with the syllables of a few far voices; unit power.

    The long-term spectrum of speech is flat to 500 Hz and then falls by 9 dB an octave
    (Byrne et al. 1994).
    """
    rates = _SYLLABLES_HZ * rng.uniform(0.6, 1.4, (_BABBLE_VOICES, 1))
    phases = rng.uniform(0, 2 * np.pi, (_BABBLE_VOICES, 1))
    knots = np.arange(0, n + _SWELL_STEP, _SWELL_STEP)
    swell = np.sum(1 + np.sin(2 * np.pi * rates * knots / SAMPLE_RATE + phases), axis=0)
    steady = _shaped(n, rng, lambda hertz: (hertz >= 80.0) * np.maximum(hertz / 500.0, 1.0) ** -1.5)
    babble = steady * np.interp(np.arange(n), knots, swell)
    return babble / np.sqrt(np.mean(babble**2))


def _shaped(
    n: int, rng: np.random.Generator, amplitude: Callable[[NDArray[np.float64]], NDArray]
) -> NDArray[np.float64]:
    """Gaussian noise (n,) whose spectrum follows `amplitude` of a frequency in Hz; unit power."""
    length = next_fast_len(n, real=True)
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum *= amplitude(np.fft.rfftfreq(length, 1 / SAMPLE_RATE))
    shaped = np.fft.irfft(spectrum, length)[:n]
    return shaped / np.sqrt(np.mean(shaped**2))


def _of_length(samples: Samples, n: int) -> Samples:
    return np.pad(samples[:n], (0, max(0, n - len(samples))))
