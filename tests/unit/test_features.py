import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop import features


def tone(hertz: float, seconds: float = 0.5) -> features.Samples:
    times = np.arange(int(seconds * features.SAMPLE_RATE)) / features.SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # inside lhotse
def test_agrees_with_lhotse() -> None:
    from lhotse import Fbank, FbankConfig

    samples = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    expected = Fbank(FbankConfig()).extract(samples, features.SAMPLE_RATE)
    # What the two implementations differ by; a mel bin's deviation in speech is about 3.
    np.testing.assert_allclose(features.log_mel(samples), expected, atol=2e-3)


@pytest.mark.parametrize("samples", [1, 80, 119, 120, 250, 400, 16_079, 48_000])
def test_agrees_with_kaldi_s_own_code_at_both_ends_too(samples: int) -> None:
    import kaldi_native_fbank as knf

    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = features.MEL_BINS
    options.mel_opts.high_freq = -400.0
    bank = knf.OnlineFbank(options)
    audio = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    bank.accept_waveform(features.SAMPLE_RATE, audio)
    bank.input_finished()
    found = features.log_mel(audio)
    assert len(found) == bank.num_frames_ready
    for index, row in enumerate(found):
        np.testing.assert_allclose(row, bank.get_frame(index), atol=2e-3)


@pytest.mark.parametrize("samples", [0, 1, 79, 80, 160, 399, 16_000, 16_001])
def test_has_a_frame_every_ten_milliseconds(samples: int) -> None:
    matrix = features.log_mel(np.zeros(samples, np.float32))
    assert matrix.shape == ((samples + 80) // 160, features.MEL_BINS)
    assert matrix.dtype == np.float32


def test_are_the_same_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    expected = features.log_mel(samples)
    monkeypatch.setattr(features, "rfft", np.fft.rfft)
    np.testing.assert_allclose(features.log_mel(samples), expected, atol=1e-4)


def test_digital_silence_is_the_floor() -> None:
    assert np.unique(features.log_mel(np.zeros(1600, np.float32))) == pytest.approx(features.FLOOR)


@pytest.mark.parametrize("hertz", [300.0, 1000.0, 4000.0])
def test_a_tone_is_loudest_in_the_bin_at_its_frequency(hertz: float) -> None:
    loudest = features.log_mel(tone(hertz)).mean(axis=0).argmax()
    assert loudest == np.abs(features.mel_centres() - hertz).argmin()


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=8))
def test_a_stream_in_pieces_gives_the_frames_of_the_whole(pieces: list[int]) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, sum(pieces)).astype(np.float32)
    stream = features.LogMelStream()
    frames = [stream.accept(piece) for piece in np.split(samples, np.cumsum(pieces)[:-1])]
    frames.append(stream.finish())
    np.testing.assert_allclose(np.concatenate(frames), features.log_mel(samples), atol=1e-4)


def test_the_digest_changes_with_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    before = features.configuration_digest()
    monkeypatch.setitem(features.CONFIGURATION, "bins", 40)
    assert features.configuration_digest() != before
