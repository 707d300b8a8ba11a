"""Decoding what strangers send, encoding what we keep, and the channels that speech comes by.

Samples are float32 in [-1, 1], mono, shape (n,), at SAMPLE_RATE.

    >>> audio = decode(Path("call.webm").read_bytes(), limits=Limits(seconds=30))
    >>> stored = encode_flac(audio.samples)
    >>> uri = f"s3://bucket/audio/{digest(stored)}.flac"
"""

import hashlib
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import BinaryIO

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from hearloop.errors import InvalidAudio
from hearloop.features import SAMPLE_RATE

__all__ = [
    "SAMPLE_RATE",
    "Audio",
    "Limits",
    "Samples",
    "TooLong",
    "add_noise",
    "decode",
    "decode_long",
    "digest",
    "encode_flac",
    "telephone",
]

Samples = NDArray[np.float32]

_RATES = (8_000, 192_000)
"""Sample rates that speech is recorded at, in Hz; others are damaged headers."""

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


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a recording may hold. Decoding stops as soon as one is passed, so memory is bounded."""

    bytes: int = 32 * 2**20
    """Of the encoded recording: 90 s of 96 kHz 16-bit stereo WAV."""
    seconds: float = 60.0
    channels: int = 8
    expansion: float = 2_000.0
    """Bytes of 16-bit samples that a byte may become: FLAC makes up to about 1,300 of silence."""


class TooLong(InvalidAudio):
    """The recording has more seconds than the limits allow."""


@dataclass(frozen=True, kw_only=True)
class Audio:
    """A decoded recording: `samples` at SAMPLE_RATE, `source_rate` as it was recorded, in Hz."""

    samples: Samples
    source_rate: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / SAMPLE_RATE


def decode(body: bytes, *, limits: Limits | None = None, headerless: str | None = None) -> Audio:
    """Decode WAV, AU, FLAC, Ogg (Vorbis, Opus), MP3, WebM or MP4 to 16 kHz mono.

    headerless: name of the codec of bytes that have no header (`g722`); nothing is guessed.
    Channels are averaged. Raises InvalidAudio for anything else, for damaged or truncated
    recordings, for samples that are not finite, and for what passes `limits`.
    """
    limits = limits or Limits()
    _check_size(body, limits)
    container = headerless or _container(body)
    read = _ffmpeg_blocks if headerless or container in _FFMPEG else _sndfile_blocks
    rate, parts = 0, []
    for rate, part in _mono(read(io.BytesIO(body), container), limits, len(body)):  # noqa: B007
        parts.append(part)
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if len(samples) and rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE).astype(np.float32)
    if not len(samples):
        raise InvalidAudio("The recording holds no samples; send one that does.")
    return Audio(samples=np.clip(samples, -1.0, 1.0), source_rate=rate)


def decode_long(body: mmap, limits: Limits) -> Iterator[Samples]:
    """As `decode`, block by block (n,): memory does not grow with the recording.

    `body`: a file in memory (mmap), read where it is needed. What is wrong with the recording
    shows when the place is reached.
    """
    _check_size(body, limits)
    container = _container(body)
    read = _ffmpeg_blocks if container in _FFMPEG else _sndfile_blocks
    resampler = None
    for rate, part in _mono(read(body, container), limits, len(body)):
        if rate != SAMPLE_RATE and resampler is None:
            resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
        yield np.clip(resampler.resample_chunk(part) if resampler else part, -1.0, 1.0)
    if resampler is not None:
        yield np.clip(resampler.resample_chunk(np.zeros(0, np.float32), last=True), -1.0, 1.0)


def _check_size(body: bytes | mmap, limits: Limits) -> None:
    if len(body) > limits.bytes:
        raise InvalidAudio(
            f"The recording has {len(body)} bytes where {limits.bytes} are the most; "
            "send it in parts or in a compressed format."
        )


_FFMPEG = {"matroska", "mp4"}
"""Containers that libsndfile cannot read. FFmpeg is told the container and never probes, so it
never follows a playlist to another file."""

_Block = tuple[int, NDArray[np.float32]]
"""A sample rate and samples (n, channels)."""


def _container(body: bytes | mmap) -> str:
    if body[:4] in (b"RIFF", b"RIFX", b"RF64") and body[8:12] == b"WAVE":
        _refuse_truncated_wav(body)
        return "wav"
    if body[:4] == b".snd":
        return "au"
    if body[:4] in (b"fLaC", b"OggS"):
        return "flac" if body[:1] == b"f" else "ogg"
    if body[:3] == b"ID3" or (len(body) > 1 and body[0] == 0xFF and body[1] & 0xE6 in (0xE2, 0xE4)):
        return "mp3"
    if body[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if body[4:8] == b"ftyp":
        return "mp4"
    raise InvalidAudio(
        f"The recording begins with {body[:4].hex() or 'nothing'}, which is no format that we "
        "know; send WAV, FLAC, Ogg, MP3, WebM or MP4."
    )


def _refuse_truncated_wav(body: bytes | mmap) -> None:
    """libsndfile plays a WAV file that was cut off; what was cut off may be what was said."""
    order = ">" if body[:4] == b"RIFX" else "<"
    position = 12
    while position + 8 <= len(body):
        (length,) = struct.unpack_from(f"{order}I", body, position + 4)
        held = len(body) - position - 8
        if body[position : position + 4] == b"data":
            # A recorder that streams writes no length, or the largest one.
            if held < length < 0x7FFFF000:
                raise InvalidAudio(
                    f"The WAV header announces {length} bytes of samples and {held} are there; "
                    "send the whole file."
                )
            return
        position += 8 + length + length % 2


def _mono(blocks: Iterator[_Block], limits: Limits, encoded: int) -> Iterator[tuple[int, Samples]]:
    """Average the channels of each block, and stop at the first limit that is passed."""
    rate, total = 0, 0
    most = limits.expansion * encoded
    for block_rate, block in blocks:
        frames, channels = block.shape
        if channels > limits.channels:
            raise InvalidAudio(
                f"The recording has {channels} channels where {limits.channels} are the most; "
                "mix it down first."
            )
        if not _RATES[0] <= block_rate <= _RATES[1] or rate not in (0, block_rate):
            raise InvalidAudio(
                f"The recording has a sample rate of {block_rate} Hz; send one constant rate "
                f"between {_RATES[0]} and {_RATES[1]} Hz."
            )
        rate, total = block_rate, total + frames
        if total > limits.seconds * rate:
            raise TooLong(f"The recording is longer than {limits.seconds:g} s; send it in parts.")
        if 2 * total * channels > most:
            raise InvalidAudio(
                f"The recording's {encoded} bytes become more than {limits.expansion:g} times as "
                "many; send one with speech in it."
            )
        if not np.isfinite(block).all():
            raise InvalidAudio("The recording holds samples that are not finite; record it again.")
        yield rate, np.clip(block, -1.0, 1.0).mean(axis=1, dtype=np.float32)


def _sndfile_blocks(file: BinaryIO | mmap, container: str) -> Iterator[_Block]:
    """Decode by libsndfile, at most a second at a time."""
    try:
        with soundfile.SoundFile(file) as recording:
            rate, announced, read = recording.samplerate, recording.frames, 0
            # Enough for _collect to refuse what it has to before anything is decoded.
            yield rate, np.zeros((0, recording.channels), np.float32)
            while len(block := recording.read(rate, dtype="float32", always_2d=True)):
                read += len(block)
                yield rate, block
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
        raise InvalidAudio(f"The recording is no sound {container} file: {error}") from error
    if container == "flac" and read < announced:
        raise InvalidAudio(
            f"The FLAC header announces {announced} samples and {read} are there; "
            "send the whole file."
        )


def _ffmpeg_blocks(file: BinaryIO | mmap, container: str) -> Iterator[_Block]:
    """Decode the first audio stream by FFmpeg, frame by frame."""
    try:
        with av.open(file, "r", format=container, metadata_errors="replace") as recording:
            if not recording.streams.audio:
                raise InvalidAudio(f"The {container} recording has no sound; send one that has.")
            for frame in recording.decode(recording.streams.audio[0]):
                yield frame.sample_rate, _frame_samples(frame)
    except (av.FFmpegError, ValueError, OverflowError) as error:
        raise InvalidAudio(f"The recording is no sound {container} file: {error}") from error


def _frame_samples(frame: av.AudioFrame) -> NDArray[np.float32]:
    """Samples (n, channels) in [-1, 1] of whatever sample format the codec gives."""
    raw, channels = frame.to_ndarray(), frame.layout.nb_channels
    samples = raw.T if frame.format.is_planar else raw.reshape(-1, channels)
    if raw.dtype.kind == "f":
        return samples.astype(np.float32)
    scale = 2.0 ** (8 * raw.dtype.itemsize - 1)
    middle = scale if raw.dtype.kind == "u" else 0.0
    return ((samples.astype(np.float64) - middle) / scale).astype(np.float32)


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
    from scipy.signal import butter, sosfilt  # 100 MB that the server's image does without

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
    n: int,
    rng: np.random.Generator,
    amplitude: Callable[[NDArray[np.floating]], NDArray[np.floating]],
) -> NDArray[np.float64]:
    """Gaussian noise (n,) whose spectrum follows `amplitude` of a frequency in Hz; unit power."""
    from scipy.fft import next_fast_len

    length = next_fast_len(n, real=True)
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum *= amplitude(np.fft.rfftfreq(length, 1 / SAMPLE_RATE))
    shaped = np.fft.irfft(spectrum, length)[:n]
    return shaped / np.sqrt(np.mean(shaped**2))


def _of_length(samples: Samples, n: int) -> Samples:
    return np.pad(samples[:n], (0, max(0, n - len(samples))))
