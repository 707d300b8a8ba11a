import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.drift.harm import bounds, call_wers

wers = st.lists(st.floats(0, 1), max_size=40)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(wers)
def test_bounds_hold_the_mean_between_them(calls: list[float]) -> None:
    harm = bounds(calls, alpha=0.05)
    assert 0 <= harm.lower <= harm.upper <= 1
    assert harm.calls == len(calls)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(wers, wers)
def test_more_calls_never_widen_the_bounds(calls: list[float], more: list[float]) -> None:
    few, many = bounds(calls, alpha=0.05), bounds([*calls, *more], alpha=0.05)
    assert many.lower >= few.lower
    assert many.upper <= few.upper


def test_nothing_is_known_without_calls() -> None:
    harm = bounds([], alpha=0.01)
    assert (harm.lower, harm.upper, harm.mean) == (0.0, 1.0, None)


@pytest.mark.parametrize("mean", [0.05, 0.3])
def test_the_true_mean_is_refuted_as_rarely_as_promised(mean: float) -> None:
    """Looked at after every call, over 60 streams of 100; at 0.1 a side a tenth may fail."""
    rng = np.random.default_rng(0)
    streams = (rng.random((60, 100)) < mean).astype(float)
    harms = [bounds(stream.tolist(), alpha=0.1) for stream in streams]
    assert np.mean([harm.lower > mean for harm in harms]) <= 0.1
    assert np.mean([harm.upper < mean for harm in harms]) <= 0.1


def test_a_champion_that_fails_is_known_within_a_dozen_calls() -> None:
    rng = np.random.default_rng(1)
    lower = bounds(rng.beta(3, 2, 12).tolist(), alpha=0.005).lower
    assert 0.15 < lower < 0.6


def test_confirmations_clear_it() -> None:
    assert bounds([0.0] * 60, alpha=0.01).upper < 0.15


def test_calls_pool_their_utterances_and_are_bounded() -> None:
    counts = [("a", 1, 4), ("b", 9, 3), ("a", 0, 4), ("c", 0, 0), ("d", 2, 0)]
    assert call_wers(counts) == [1 / 8, 1.0, 0.0, 1.0]
