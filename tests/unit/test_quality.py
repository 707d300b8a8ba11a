import time
from dataclasses import fields

import numpy as np
import pytest

from hearloop.audio import SAMPLE_RATE, Samples, add_noise, telephone
from hearloop.corpora.espeak import Voice, speak
from hearloop.quality import SIGNALS, Quality, measure, speaking_rate


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Three seconds with a pause before and after, at -26 dBFS."""
    voice = Voice(accent="en-us", variant="f2", rate=170, pitch=50, pitch_range=50)
    (words,) = speak(voice, ["my account number is four one six and my name is alice"])
    levelled = np.pad(words * (0.05 / words.std()), (3_000, 3_000))
    return levelled.astype(np.float32)


def test_each_signal_is_described_once() -> None:
    measured = {field.name for field in fields(Quality)}
    assert [signal.name for signal in SIGNALS] == [*_names(), "speaking_rate"]
    assert measured == {signal.name for signal in SIGNALS} - {"speaking_rate"}


def _names() -> list[str]:
    return [field.name for field in fields(Quality)]


@pytest.mark.parametrize("snr_db", [10.0, 15.0, 20.0, 25.0, 35.0])
def test_the_noise_that_was_added_is_measured(speech: Samples, snr_db: float) -> None:
    noisy = add_noise(speech, snr_db, np.random.default_rng(0))
    assert measure(noisy).snr_db == pytest.approx(snr_db, abs=1.5)


@pytest.mark.parametrize("snr_db", [15.0, 25.0, 35.0])
def test_a_telephone_is_told_from_a_microphone(speech: Samples, snr_db: float) -> None:
    noisy = add_noise(speech, snr_db, np.random.default_rng(0))
    assert measure(noisy).bandwidth_hz > 6_500
    assert 3_300 < measure(telephone(noisy)).bandwidth_hz < 4_000


def test_loudness_follows_the_level(speech: Samples) -> None:
    assert measure(speech).loudness_dbfs == pytest.approx(-26, abs=1)
    difference = (
        measure(speech).loudness_dbfs - measure((speech / 10).astype(np.float32)).loudness_dbfs
    )
    assert difference == pytest.approx(20, abs=0.1)


def test_clipping_and_silence_are_shares() -> None:
    half = np.zeros(SAMPLE_RATE, np.float32)
    half[: SAMPLE_RATE // 2] = np.sign(np.sin(np.arange(SAMPLE_RATE // 2)))
    found = measure(half)
    assert found.clipping == pytest.approx(0.5, abs=0.01)
    assert found.silence == pytest.approx(0.5, abs=0.05)


def test_nothing_is_all_silence() -> None:
    found = measure(np.zeros(SAMPLE_RATE, np.float32))
    assert (found.duration_s, found.silence, found.snr_db) == (1.0, 1.0, 0.0)
    assert np.isfinite(list(vars(found).values())).all()


def test_a_single_sample_can_be_measured() -> None:
    assert np.isfinite(list(vars(measure(np.ones(1, np.float32))).values())).all()


def test_letters_are_counted_without_spaces() -> None:
    assert speaking_rate("it's ten past two", 2.0) == 6.5


def test_an_utterance_is_measured_in_a_fraction_of_a_request(speech: Samples) -> None:
    three = np.resize(speech, 3 * SAMPLE_RATE)
    measure(three)
    began = time.thread_time()
    for _ in range(20):
        measure(three)
    assert (time.thread_time() - began) / 20 < 0.005
