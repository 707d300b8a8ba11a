"""Simulated traffic: ten signals of a call, half of them lognormal, one a rare 0 or 1; speakers
differ (intraclass correlation 0.3), and each call has three utterances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hearloop.drift import detectors
from hearloop.drift.detectors import Comparison
from hearloop.drift.reference import Condition, Reference

SIGNALS = tuple(f"signal {number}" for number in range(10))
ICC = 0.3
ARL = 10_000
RARE = 5

Array = NDArray[np.float64]


def speech(
    rng: np.random.Generator, calls: tuple[int, ...], *, utterances: int = 3, shift: float = 0.0
) -> Array:
    """Signals (*calls, utterances, signal). `shift`, in standard deviations, moves signal 1."""
    speakers = rng.standard_normal((*calls, 1, len(SIGNALS)))
    noise = rng.standard_normal((*calls, utterances, len(SIGNALS)))
    values = np.sqrt(ICC) * speakers + np.sqrt(1 - ICC) * noise
    values[..., 1] += shift
    values[..., ::2] = np.exp(values[..., ::2])
    values[..., RARE] = values[..., RARE] > 2.2
    return values


def condition(utterances: Array, name: str = "known") -> Condition:
    speakers = tuple(tuple(tuple(said) for said in speaker) for speaker in utterances.tolist())
    return Condition(name=name, speakers=speakers, wer=0.04)


def comparison(rng: np.random.Generator, speakers: int, *shifts: float) -> Comparison:
    conditions = tuple(
        condition(speech(rng, (speakers,), utterances=12, shift=shift), f"at {shift}")
        for shift in shifts or (0.0,)
    )
    reference = Reference(signals=SIGNALS, conditions=conditions)
    return Comparison(reference, signals=SIGNALS, error=0.01)


def alarms(known: Comparison, means: Array, size: int = 3) -> NDArray[np.int64]:
    """The call (from 1) of the first alarm in each stream of `means` (stream, call, signal)."""
    bets = known.bets(means, size)
    statistic = np.zeros((len(means), *detectors.initial(len(SIGNALS)).shape))
    first = np.zeros(len(means), dtype=np.int64)
    for call in range(means.shape[1]):
        statistic = detectors.step(statistic, bets[:, call])
        now = (first == 0) & (detectors.combined(statistic) >= ARL)
        first[now] = call + 1
    return first


@pytest.mark.parametrize("speakers", [40, 200])
def test_unchanged_streams_of_other_speakers_stay_silent(speakers: int) -> None:
    """An ARL of 10,000 lets a tenth of streams of 1,000 calls alarm; eight references, 25 each."""
    rng = np.random.default_rng(1)
    false = [
        alarms(comparison(rng, speakers), speech(rng, (25, 1000)).mean(axis=-2)) for _ in range(8)
    ]
    assert np.mean(np.concatenate(false) > 0) <= 0.1


@pytest.mark.parametrize(
    ("shift", "speakers", "calls"), [(1.0, 100, 80), (2.0, 40, 45), (6.0, 40, 15), (-6.0, 40, 15)]
)
def test_a_shift_is_found_soon_and_sooner_when_it_is_large(
    shift: float, speakers: int, calls: int
) -> None:
    rng = np.random.default_rng(2)
    means = speech(rng, (50, 200), shift=shift).mean(axis=-2)
    first = alarms(comparison(rng, speakers), means)
    assert np.all(first > 0)
    assert np.quantile(first, 0.9) <= calls


def test_a_shift_after_long_quiet_is_found_as_soon() -> None:
    rng = np.random.default_rng(3)
    quiet = speech(rng, (20, 500)).mean(axis=-2)
    changed = speech(rng, (20, 100), shift=6.0).mean(axis=-2)
    first = alarms(comparison(rng, 40), np.concatenate([quiet, changed], axis=1))
    assert np.all((first > 500) & (first <= 520))


def test_any_mixture_of_known_conditions_is_no_change_and_a_third_one_is() -> None:
    rng = np.random.default_rng(4)
    both = comparison(rng, 40, 0.0, 6.0)
    one, other, third = (
        speech(rng, (20, 300), shift=shift).mean(axis=-2) for shift in (0.0, 6.0, -6.0)
    )
    mixed = np.where(rng.random((20, 300, 1)) < 0.3, one, other)
    for unchanged in (one, other, mixed):
        assert not np.any(alarms(both, unchanged))
    assert np.all(alarms(both, third) > 0)


@pytest.mark.parametrize("size", [1, 2, 8, 30])
def test_calls_are_compared_with_reference_calls_of_their_size(size: int) -> None:
    rng = np.random.default_rng(5)
    known = comparison(rng, 40)
    unchanged = speech(rng, (40, 300), utterances=size)
    compared = min(size, known.size)
    means = unchanged[..., :compared, :].mean(axis=-2)
    assert np.mean(alarms(known, means, compared) > 0) <= 0.1


@pytest.mark.parametrize(("said", "size"), [(1, 1), (2, 2), (12, 8)])
def test_calls_longer_than_what_reference_speakers_said_raise_no_false_alarms(
    said: int, size: int
) -> None:
    """Each reference speaker said little; the calls have eight utterances of skewed signals."""
    rng = np.random.default_rng(9)
    reference = Reference(
        signals=SIGNALS, conditions=(condition(speech(rng, (400,), utterances=said)),)
    )
    known = Comparison(reference, signals=SIGNALS, error=0.01)
    assert known.size == size
    means = speech(rng, (16, 300), utterances=8)[..., :size, :].mean(axis=-2)
    assert np.mean(alarms(known, means, size) > 0) <= 0.1
    with pytest.raises(ValueError, match=str(size + 1)):
        known.bets(means, size + 1)


def test_a_few_reference_speakers_who_said_less_shorten_no_comparison() -> None:
    rng = np.random.default_rng(10)
    many, few = (condition(speech(rng, (n,), utterances=u)) for n, u in ((30, 6), (10, 1)))
    mixed = Condition(name="known", speakers=(*many.speakers, *few.speakers), wer=0.04)
    known = Comparison(Reference(signals=SIGNALS, conditions=(mixed,)), signals=SIGNALS, error=0.01)
    assert known.size == 6


def test_what_was_not_measured_is_not_bet_on() -> None:
    rng = np.random.default_rng(6)
    known = comparison(rng, 40)
    means = speech(rng, (1, 50), shift=6.0).mean(axis=-2)
    means[..., 1] = np.nan
    assert np.all(known.bets(means, 3)[:, :, 1] == 1.0)
    assert not np.any(alarms(known, means))


def test_signals_are_found_by_name_and_unknown_ones_never_alarm() -> None:
    rng = np.random.default_rng(7)
    reference = Reference(
        signals=SIGNALS, conditions=(condition(speech(rng, (40,), utterances=12)),)
    )
    known = Comparison(reference, signals=("new", "signal 1"), error=0.01)
    means = np.array([1e6, 1e6])
    bets = known.bets(means, 3)
    assert np.all(bets[0] <= 1.0)
    assert bets[1].max() > 2.0


def test_a_signal_that_nobody_measured_never_alarms() -> None:
    rng = np.random.default_rng(8)
    values = speech(rng, (40,), utterances=12)
    values[..., 1] = np.nan
    known = Comparison(
        Reference(signals=SIGNALS, conditions=(condition(values),)), signals=SIGNALS, error=0.01
    )
    assert np.all(known.bets(np.full(len(SIGNALS), 1e6), 3)[1] <= 1.0)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    st.lists(st.lists(st.floats(0, 1e9), min_size=2, max_size=2), min_size=1, max_size=60),
    st.data(),
)
def test_the_parts_of_the_signals_add_up_and_nothing_becomes_infinite(
    bets: list[list[float]], data: st.DataObject
) -> None:
    statistic = detectors.initial(2)
    for bet in bets:
        statistic = detectors.step(statistic, np.array(bet)[:, None, None, None])
    assert np.all(np.isfinite(statistic))
    assert np.sum(detectors.by_signal(statistic)) == pytest.approx(detectors.combined(statistic))


def test_the_statistic_grows_by_one_a_call_on_average_at_most() -> None:
    """With a reference so large that it is the distribution itself, and a fair coin of a bet."""
    rng = np.random.default_rng(9)
    calls, streams = 200, 400
    bets = detectors.FRACTIONS * (2 * (rng.random((streams, calls, 1, 2, 2, 1)) < 0.5) - 1) + 1
    statistic = np.zeros((streams, *detectors.initial(1).shape))
    grown = []
    for call in range(5):
        statistic = detectors.step(statistic, bets[:, call])
        grown.append(float(detectors.combined(statistic).mean()))
    assert grown == pytest.approx([1, 2, 3, 4, 5], rel=0.25)
