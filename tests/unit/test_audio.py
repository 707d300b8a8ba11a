import io
import struct
import tracemalloc

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal.windows import blackmanharris

from hearloop.audio import (
    SAMPLE_RATE,
    Limits,
    Samples,
    add_noise,
    decode,
    digest,
    encode_flac,
    telephone,
)
from hearloop.errors import InvalidAudio


def _tone(seconds: float = 0.5, hertz: float = 440.0, rate: int = SAMPLE_RATE) -> Samples:
    time = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def _sndfile(samples: np.ndarray, rate: int, **format_: str) -> bytes:
    body = io.BytesIO()
    soundfile.write(body, samples, rate, **format_)
    return body.getvalue()


def _ffmpeg(samples: Samples, container: str, codec: str, rate: int) -> bytes:
    body = io.BytesIO()
    with av.open(body, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        assert isinstance(stream, av.AudioStream)
        resampler = av.AudioResampler(stream.format, "mono", rate, stream.frame_size or 320)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            piece.pts = None
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return body.getvalue()


ENCODED = {
    "wav": _sndfile(_tone(), 16_000, format="WAV", subtype="PCM_16"),
    "wav, 24 bit, stereo": _sndfile(
        np.stack([_tone(rate=48_000)] * 2, 1), 48_000, format="WAV", subtype="PCM_24"
    ),
    "wav, mu-law": _sndfile(_tone(rate=8_000), 8_000, format="WAV", subtype="ULAW"),
    "wav, float": _sndfile(_tone(rate=44_100), 44_100, format="WAV", subtype="FLOAT"),
    "flac": _sndfile(_tone(), 16_000, format="FLAC"),
    "ogg vorbis": _sndfile(_tone(), 16_000, format="OGG", subtype="VORBIS"),
    "ogg opus": _sndfile(_tone(rate=48_000), 48_000, format="OGG", subtype="OPUS"),
    "mp3": _sndfile(_tone(rate=22_050), 22_050, format="MP3"),
    "webm opus": _ffmpeg(_tone(rate=48_000), "webm", "libopus", 48_000),
    "mp4 aac": _ffmpeg(_tone(rate=44_100), "mp4", "aac", 44_100),
}


@pytest.mark.parametrize("name", ENCODED)
def test_every_format_gives_the_same_half_second_tone(name: str) -> None:
    audio = decode(ENCODED[name])
    assert audio.samples.dtype == np.float32
    assert audio.seconds == pytest.approx(0.5, abs=0.1)
    spectrum = np.abs(np.fft.rfft(audio.samples))
    loudest = np.argmax(spectrum) * SAMPLE_RATE / len(audio.samples)
    assert loudest == pytest.approx(440, abs=5)
    assert np.abs(audio.samples).max() == pytest.approx(0.3, abs=0.05)


def test_g722_is_decoded_only_where_it_is_named() -> None:
    body = _ffmpeg(_tone(), "g722", "g722", 16_000)
    assert decode(body, headerless="g722").seconds == pytest.approx(0.5, abs=0.05)
    with pytest.raises(InvalidAudio, match="no format that we know"):
        decode(body)


def test_the_rate_of_the_recording_is_reported() -> None:
    assert decode(ENCODED["wav, mu-law"]).source_rate == 8_000


def test_channels_are_averaged() -> None:
    both = np.stack([_tone(), -_tone()], axis=1)
    assert np.abs(decode(_sndfile(both, 16_000, format="FLAC")).samples).max() < 1e-4


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "begins with nothing"),
        (b"hello world", "no format that we know"),
        (ENCODED["wav"][:9_000], "header announces 16000 bytes of samples and 8956 are there"),
        (ENCODED["flac"][:-200], "flac"),
        (_sndfile(np.zeros(0), 16_000, format="WAV"), "no samples"),
        (_sndfile(np.zeros((800, 9)), 16_000, format="WAV"), "9 channels where 8"),
        (_sndfile(_tone(rate=4_000), 4_000, format="WAV"), "sample rate of 4000 Hz"),
        (_sndfile(_tone(61.0), 16_000, format="FLAC"), "longer than 60 s"),
        (
            _sndfile(np.array([0.0, np.nan], np.float32), 16_000, format="WAV", subtype="FLOAT"),
            "not finite",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_speech_is_refused_with_its_reason(body: bytes, message: str) -> None:
    with pytest.raises(InvalidAudio, match=f"(?i){message}"):
        decode(body)


def test_too_many_bytes_are_refused_before_anything_is_decoded() -> None:
    with pytest.raises(InvalidAudio, match="where 100 are the most"):
        decode(ENCODED["wav"], limits=Limits(bytes=100))


def test_a_recorder_that_streams_may_leave_its_length_open() -> None:
    body = bytearray(ENCODED["wav"])
    at = body.index(b"data") + 4
    struct.pack_into("<I", body, at, 0xFFFFFFFF)
    assert decode(bytes(body)).seconds == pytest.approx(0.5)


def test_silence_that_expands_a_thousandfold_does_not_fill_the_memory() -> None:
    body = _sndfile(np.zeros(20 * 60 * SAMPLE_RATE, np.float32), SAMPLE_RATE, format="FLAC")
    assert len(body) < 200_000
    tracemalloc.start()
    with pytest.raises(InvalidAudio, match="longer than 60 s"):
        decode(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 2**20


def test_loud_floats_are_limited_to_full_scale() -> None:
    body = _sndfile(1e30 * _tone(), 16_000, format="WAV", subtype="FLOAT")
    assert np.abs(decode(body).samples).max() == 1.0


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.sampled_from(sorted(ENCODED)), st.data())
def test_damaged_recordings_are_decoded_or_refused_and_nothing_else(
    name: str, data: st.DataObject
) -> None:
    body = bytearray(ENCODED[name])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, min(len(body) - 1, 400)) | st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
    _decoded_or_refused(bytes(body[: data.draw(st.integers(0, len(body)))]))


MAGIC = [b"", b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\x1a\x45\xdf\xa3", b"\0\0\0\x18ftyp"]
MAGIC += [b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0"]


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.sampled_from(MAGIC), st.binary(max_size=400))
def test_arbitrary_bytes_are_refused_and_nothing_else(magic: bytes, rest: bytes) -> None:
    _decoded_or_refused(magic + rest)


def _decoded_or_refused(body: bytes) -> None:
    try:
        audio = decode(body)
    except InvalidAudio:
        return
    assert 0 < len(audio.samples) <= 61 * SAMPLE_RATE
    assert np.abs(audio.samples).max() <= 1.0


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=400))
def test_what_is_encoded_is_decoded_to_the_same_bytes_again(steps: list[int]) -> None:
    samples = (np.array(steps) / 32768).astype(np.float32)
    body = encode_flac(samples)
    decoded = decode(body).samples
    np.testing.assert_array_equal(decoded, samples)
    assert encode_flac(decoded) == body
    assert digest(body) == digest(encode_flac(samples))


def test_a_telephone_line_keeps_its_band_and_its_length() -> None:
    inside, outside = telephone(_tone(hertz=1_000)), telephone(_tone(hertz=6_000))
    assert len(inside) == len(_tone())
    assert np.std(inside) == pytest.approx(np.std(_tone()), rel=0.05)
    assert np.std(outside) < 0.01 * np.std(_tone())
    assert np.std(telephone(_tone(hertz=60))) < 0.01 * np.std(_tone())


@pytest.mark.parametrize("snr_db", [0.0, 15.0, 35.0])
def test_noise_has_the_power_that_was_asked_for(snr_db: float) -> None:
    samples = _tone(2.0)
    noise = add_noise(samples, snr_db, np.random.default_rng(3)) - samples
    measured = 10 * np.log10(np.mean(samples**2) / np.mean(noise**2))
    assert measured == pytest.approx(snr_db, abs=0.1)


def test_noise_depends_on_its_seed_alone() -> None:
    first, second, other = (
        add_noise(_tone(), 20.0, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", ["webm opus", "mp4 aac"])
def test_a_recording_cut_off_anywhere_is_decoded_or_refused(name: str) -> None:
    for length in range(0, len(ENCODED[name]), 29):
        _decoded_or_refused(ENCODED[name][:length])


def _level_db(samples: Samples) -> float:
    """RMS of the middle, in dB to full scale."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(20 * np.log10(max(np.sqrt(np.mean(middle.astype(np.float64) ** 2)), 1e-9)))


def _decoded_tone(hertz: float, rate: int) -> Samples:
    return decode(_sndfile(_tone(0.5, hertz, rate), rate, format="WAV", subtype="FLOAT")).samples


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000])
def test_resampling_keeps_the_band_and_lets_nothing_else_in(rate: int) -> None:
    highest = 0.9 * min(rate, SAMPLE_RATE) / 2
    for hertz in np.linspace(100, highest, 9):
        kept = _decoded_tone(hertz, rate)
        assert _level_db(kept) == pytest.approx(_level_db(_tone(0.5, hertz)), abs=0.05)
        spectrum = np.abs(np.fft.rfft(kept[2000:6000] * blackmanharris(4000))) ** 2
        place = round(hertz * 4000 / SAMPLE_RATE)
        near = spectrum[max(place - 8, 0) : place + 9].sum()
        assert 10 * np.log10((spectrum.sum() - near) / near) < -80  # images and distortion
    for hertz in np.linspace(1.1 * SAMPLE_RATE / 2, 0.95 * rate / 2, 5) if rate > 20_000 else ():
        assert _level_db(_decoded_tone(hertz, rate)) < -100  # aliases
