from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hearloop.features import FLOOR, MEL_BINS, Matrix, mel_centres
from hearloop.recipe import Augmentation
from hearloop.training import augmentation

ALL = Augmentation(telephone=1.0, rooms=1.0, noise=1.0, voices=1.0)


@pytest.fixture
def features() -> Matrix:
    return np.random.default_rng(0).normal(-6, 2, (200, 80)).clip(FLOOR).astype(np.float32)


def many(features: Matrix, vary: Callable[..., Matrix]) -> list[Matrix]:
    return [vary(features, np.random.default_rng(seed)) for seed in range(200)]


def test_stretching_keeps_the_ends_and_the_bounds(features: Matrix) -> None:
    stretched = many(features, augmentation.stretch)
    lengths = [len(matrix) for matrix in stretched]
    assert (min(lengths), max(lengths)) == (pytest.approx(190, abs=2), pytest.approx(230, abs=2))
    for matrix in stretched:
        np.testing.assert_allclose(matrix[[0, -1]], features[[0, -1]], rtol=1e-5)


def test_a_telephone_takes_what_is_outside_its_band_and_codes_the_rest(features: Matrix) -> None:
    inside = (mel_centres() > 350) & (mel_centres() < 3200)
    above = mel_centres() > 4200
    for coded in many(features, augmentation.telephone):
        change = coded[:, inside] - features[:, inside]
        assert (change > 0).all()  # the noise of eight bits
        assert np.median(change) < 0.01
        assert (coded[:, ~inside] <= features[:, ~inside] + change.max()).all()
        assert (coded >= FLOOR).all()
        assert coded[:, above].mean() < features[:, above].mean() - 0.3


def test_another_voice_has_its_formants_elsewhere(features: Matrix) -> None:
    formant = np.full_like(features, -10.0)
    formant[:, 40] = 0.0
    moved = [int(matrix[0].argmax()) for matrix in many(formant, augmentation.voice)]
    assert 36 <= min(moved) <= 38
    assert 42 <= max(moved) <= 44


def test_gain_shifts_all_bins_alike_and_respects_the_floor(features: Matrix) -> None:
    for louder in many(features, augmentation.gain):
        assert (louder >= FLOOR).all()
        above = (louder > FLOOR) & (features > FLOOR)
        assert np.ptp((louder - features)[above]) < 1e-4


def test_masks_hide_a_small_part(features: Matrix) -> None:
    hidden = [(masked != features).mean() for masked in many(features, augmentation.mask)]
    assert max(hidden) < 0.45
    assert 0.05 < np.mean(hidden) < 0.3


@example(frames=209, seed=0)  # the mean of so many equal numbers is rounded down
@given(frames=st.integers(1, 700), seed=st.integers(0, 2**32))
def test_digital_silence_stays_at_the_floor_on_a_telephone(frames: int, seed: int) -> None:
    silence = np.full((frames, MEL_BINS), FLOOR, np.float32)
    coded = augmentation.telephone(silence, np.random.default_rng(seed))
    assert (coded >= FLOOR).all()
    assert (coded < FLOOR + 0.1).all()


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_shortest_utterances_survive(frames: int) -> None:
    def vary(matrix: Matrix, rng: np.random.Generator) -> Matrix:
        return augmentation.augment(matrix, rng, ALL)

    for varied in many(np.full((frames, 80), -5.0, np.float32), vary):
        assert len(varied) >= 1
        assert np.isfinite(varied).all()


def test_the_same_generator_gives_the_same_variation(features: Matrix) -> None:
    one, other = (augmentation.augment(features, np.random.default_rng(7), ALL) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert one.dtype == np.float32


@pytest.mark.parametrize("way", ["telephone", "rooms", "noise"])
def test_samples_are_varied_in_each_way_that_is_asked_for(way: str) -> None:
    times = np.arange(16_000) / 16_000
    rows = (0.1 * np.sin(2 * np.pi * 1000 * times)).astype(np.float32).reshape(-1, 160)
    none = Augmentation(telephone=0.0)
    plain, varied = (
        augmentation.respeak(rows, np.random.default_rng(3), options)
        for options in (none, replace(none, **{way: 1.0}))
    )
    assert varied.dtype == np.float32
    assert len(varied) == len(plain)
    assert np.isfinite(varied).all()
    spectrum = np.abs(np.fft.rfft(varied.ravel()))
    assert spectrum[800:1200].max() > 10 * np.median(spectrum)  # the tone is still there
    assert not np.allclose(varied, plain, atol=1e-3)


def test_silence_of_samples_stays_finite() -> None:
    rows = np.zeros((100, 160), np.float32)
    for seed in range(20):
        varied = augmentation.respeak(rows, np.random.default_rng(seed), ALL)
        assert np.isfinite(varied).all()
        assert np.abs(varied).max() < 1e-3
