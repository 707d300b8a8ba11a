import numpy as np
import pytest

from hearloop.audio import SAMPLE_RATE
from hearloop.cleaning import clean, reduce_noise, trim_silence
from hearloop.corpora.espeak import Voice, speak
from hearloop.errors import InvalidAudio
from hearloop.recipe import Cleaning

VOICE = Voice(accent="en-us", variant="m3", rate=160, pitch=50, pitch_range=50)


@pytest.fixture(scope="module")
def said() -> np.ndarray:
    """A sentence between two seconds of faint noise on either side."""
    (samples,) = speak(VOICE, ["please transfer twenty pounds to alice baker"])
    rng = np.random.default_rng(0)
    padded = np.pad(samples * 0.3, 2 * SAMPLE_RATE)
    return (padded + 1e-4 * rng.standard_normal(len(padded))).astype(np.float32)


def test_nothing_is_done_unless_it_is_asked_for(said: np.ndarray) -> None:
    assert clean(said, Cleaning()) is said


def test_silence_around_the_words_goes_and_the_words_stay(said: np.ndarray) -> None:
    trimmed = clean(said, Cleaning(trim_silence=True))
    assert len(trimmed) < len(said) - 3 * SAMPLE_RATE
    kept = np.sum(trimmed.astype(np.float64) ** 2) / np.sum(said.astype(np.float64) ** 2)
    assert kept > 0.999


def test_a_recording_without_speech_is_refused() -> None:
    with pytest.raises(InvalidAudio, match="Nobody speaks"):
        trim_silence(np.zeros(SAMPLE_RATE, np.float32))


def test_noise_between_words_becomes_fainter(said: np.ndarray) -> None:
    pytest.importorskip("noisereduce")
    noisy = (said + 0.01 * np.random.default_rng(1).standard_normal(len(said))).astype(np.float32)
    reduced = reduce_noise(noisy)
    assert reduced.dtype == np.float32
    assert len(reduced) == len(noisy)
    assert np.std(reduced[:SAMPLE_RATE]) < 0.5 * np.std(noisy[:SAMPLE_RATE])
