import numpy as np
import pytest
from scipy.signal import fftconvolve

from hearloop.features import FLOOR, Matrix, log_mel
from hearloop.training.surroundings import POWERS_OF_WHITE, loudness, place

SECOND = 16_000


@pytest.fixture(scope="module")
def burst() -> Matrix:
    """A second of white noise, then a second of nothing."""
    samples = 0.1 * np.random.default_rng(3).standard_normal(SECOND, np.float32)
    return log_mel(np.pad(samples, (0, SECOND)))


def many(features: Matrix, *, room: bool, noise: bool) -> list[Matrix]:
    generators = [np.random.default_rng(seed) for seed in range(100)]
    return [place(features, rng, room=room, noise=noise) for rng in generators]


def test_the_loudness_of_features_is_the_power_of_their_samples(burst: Matrix) -> None:
    assert loudness(np.exp(burst[5:95])).mean() == pytest.approx(0.01, rel=0.05)
    assert POWERS_OF_WHITE.shape == (80,)


def test_a_room_dies_away_as_its_rt60_says(burst: Matrix) -> None:
    """Decibels in 100 ms after the last sound: 60 dB take from 0.1 to 0.7 s, high bins less."""
    falls = []
    for heard in many(burst, room=True, noise=False):
        decibels = 10 * np.log10(np.exp(heard[:, :20]).mean(axis=1))
        falls.append(float(decibels[104:108].mean() - decibels[114:118].mean()))
    assert min(falls) > 60 * 0.1 / (0.7 * 1.1 * 1.1) - 3
    assert np.median(falls) < 25


def test_a_room_is_like_a_convolution_with_decaying_noise(burst: Matrix) -> None:
    """Of 100 random rooms one decays within 2 dB of a real one of RT60 0.4 s, bin by bin."""
    rng = np.random.default_rng(5)
    times = np.arange(round(0.4 * SECOND)) / SECOND
    echoes = rng.normal(size=len(times)) * 10 ** (-3 * times / 0.4)
    dry = 0.1 * rng.standard_normal(2 * SECOND)
    dry[SECOND:] = 0
    wet = log_mel(fftconvolve(dry, echoes / np.linalg.norm(echoes))[: 2 * SECOND].astype("f4"))
    real = wet[104:115].mean(axis=1) - wet[50:95].mean()
    distances = []
    for heard in many(burst, room=True, noise=False):
        found = heard[104:115].mean(axis=1) - heard[50:95].mean()
        distances.append(float(np.abs(found - real).mean()))
    assert min(distances) < 2 * np.log(10) / 10


def test_noise_is_as_loud_as_its_ratio_says(burst: Matrix) -> None:
    speech = loudness(np.exp(burst)).mean()
    ratios = []
    for heard in many(burst, room=False, noise=True):
        rest = loudness(np.exp(heard[110:190])).mean()
        ratios.append(10 * np.log10(speech / rest))
    assert 0 < min(ratios) < 10  # it swells: what is heard of it is not all of it
    assert 30 < max(ratios) < 42


def test_nothing_falls_below_the_floor(burst: Matrix) -> None:
    silence = np.full((3, 80), FLOOR, np.float32)
    for heard in many(silence, room=True, noise=True):
        assert np.isfinite(heard).all()
        assert (heard >= FLOOR).all()
