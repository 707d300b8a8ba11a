import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hearloop.resampling import block_sums, bootstrap, holm

SPEAKERS, UTTERANCES, TRIALS = 40, 20, 1500


def worthless_challenger() -> np.ndarray:
    """Errors of challenger minus champion, (trials, speakers, utterances): no better on average.

    Speakers differ: the challenger suits some and not others (a spread of 0.12 errors an
    utterance around 0, against a spread of 0.9 within a speaker: 1.7 % of the variance).
    """
    generator = np.random.default_rng(1)
    suits = generator.normal(0.0, 0.12, (TRIALS, SPEAKERS, 1))
    within = generator.normal(0.0, 0.9, (TRIALS, SPEAKERS, UTTERANCES))
    return np.asarray(suits + within)


def share_called_better(differences: np.ndarray, block_words: float) -> float:
    lengths = np.full(differences.shape[-1], block_words)
    resampled = bootstrap(differences, lengths, resamples=1000, seed=2)
    return float(np.mean(resampled.bound(0.95) < 0))


def test_speakers_as_blocks_keep_the_false_alarm_rate_and_utterances_do_not() -> None:
    differences = worthless_challenger()
    by_speaker = share_called_better(differences.sum(axis=2), UTTERANCES * 6.0)
    by_utterance = share_called_better(differences.reshape(TRIALS, -1), 6.0)
    assert 0.035 <= by_speaker <= 0.065
    assert by_utterance > 0.08


def test_ten_blocks_keep_the_false_alarm_rate_too() -> None:
    few = worthless_challenger()[:, :10].sum(axis=2)
    assert share_called_better(few, UTTERANCES * 6.0) <= 0.065


def test_ten_blocks_keep_it_at_the_levels_of_many_slices_too() -> None:
    few = worthless_challenger()[:, :10].sum(axis=2)
    resampled = bootstrap(few, np.full(10, UTTERANCES * 6.0), resamples=2000, seed=2)
    level = 0.05 / 30
    above, below = resampled.bound(level) > 0, resampled.bound(1 - level) < 0
    assert np.mean(above | below) <= 2 * 2 * level


def test_the_detectable_difference_is_found_as_often_as_promised() -> None:
    differences = worthless_challenger().sum(axis=2)
    lengths = np.full(SPEAKERS, UTTERANCES * 6.0)
    detectable = bootstrap(differences, lengths, resamples=1000, seed=2).detectable(0.05, 0.8)
    better = differences - np.median(detectable) * lengths
    found = bootstrap(better, lengths, resamples=1000, seed=2).bound(0.95) < 0
    assert 0.75 <= np.mean(found) <= 0.85


def test_two_sided_intervals_cover_the_true_rate() -> None:
    generator = np.random.default_rng(3)
    lengths = generator.integers(40, 200, (1000, 30))
    rates = generator.beta(4, 36, (1000, 30))
    resampled = bootstrap(generator.binomial(lengths, rates), lengths, resamples=1000, seed=4)
    covered = (resampled.bound(0.025) < 0.1) & (resampled.bound(0.975) > 0.1)
    assert 0.92 <= np.mean(covered) <= 0.97


def test_p_values_agree_with_bounds() -> None:
    generator = np.random.default_rng(5)
    resampled = bootstrap(generator.normal(0, 1, (200, 15)), np.ones(15), resamples=2000, seed=6)
    p_values, bounds = resampled.p_not_below(0.1), resampled.bound(0.95)
    clear = np.abs(p_values - 0.05) > 0.02  # one reads the tail, the other the spread
    assert np.array_equal((p_values < 0.05)[clear], (bounds < 0.1)[clear])


@pytest.mark.parametrize("blocks", [40, 1000])
def test_a_thousand_utterances_take_less_than_a_tenth_of_a_second(blocks: int) -> None:
    generator = np.random.default_rng(0)
    errors, lengths = generator.poisson(0.5, (2, 1000, 1)), np.full((1000, 1), 6.0)
    names = [f"{number % blocks:04}" for number in range(1000)]
    began = time.process_time()
    difference = block_sums(names, np.hstack([errors[1] - errors[0], lengths]))
    bootstrap(difference[0], difference[1], resamples=2000, seed=0).bound(0.95)
    assert time.process_time() - began < 0.1


def test_the_same_seed_gives_the_same_interval() -> None:
    errors, lengths = np.arange(12.0), np.full(12, 50.0)
    first = bootstrap(errors, lengths, resamples=500, seed=1)
    again = bootstrap(errors, lengths, resamples=500, seed=1)
    other = bootstrap(errors, lengths, resamples=500, seed=2)
    assert first.bound(0.95) == again.bound(0.95)
    assert not np.array_equal(first.replicates, other.replicates)


def test_block_sums_keep_every_word() -> None:
    sums = block_sums(["b", "a", "b"], np.array([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]))
    assert sums.tolist() == [[2.0, 4.0], [5.0, 10.0]]


def test_one_block_has_no_spread_and_no_words_cannot_be_resampled() -> None:
    alone = bootstrap(np.array([3.0]), np.array([10.0]), resamples=100, seed=0)
    assert float(alone.bound(0.95)) == float(alone.estimate) == 0.3
    with pytest.raises(ValueError, match="no reference word"):
        bootstrap(np.zeros(3), np.zeros(3), resamples=10, seed=0)
    with pytest.raises(ValueError, match="no reference word"):
        bootstrap(np.zeros(0), np.zeros(0), resamples=10, seed=0)


def test_holm_follows_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]
    assert holm([], 0.05) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(deadline=None, derandomize=True)
def test_holm_rejects_no_less_than_bonferroni_and_no_more_than_plain_tests(
    p_values: list[float],
) -> None:
    rejected = holm(p_values, 0.05)
    for value, decided in zip(p_values, rejected, strict=True):
        assert decided or value > 0.05 / len(p_values)
        assert not decided or value <= 0.05


def test_holm_keeps_the_family_wise_error() -> None:
    p_values = stats.uniform.rvs(size=(2000, 8), random_state=7)
    assert np.mean([any(holm(list(row), 0.05)) for row in p_values]) <= 0.06
