import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop import quality
from hearloop.audio import SAMPLE_RATE
from hearloop.drift.detectors import LARGEST_CALL
from hearloop.drift.signals import REMEMBERED_CALLS, SIGNALS, CallBook, ClosedCall, utterance


def book(close_after_calls: int = 3, idle_seconds: float = 60.0) -> CallBook:
    return CallBook(close_after_calls=close_after_calls, idle_seconds=idle_seconds)


def say(
    into: CallBook,
    call: str,
    *,
    at: float = 0.0,
    event: str = "",
    partition: int = 0,
    **values: float,
) -> list[str]:
    closed = into.add(
        call=call,
        partition=partition,
        event=event or f"{call} {at} {values}",
        at=at,
        signals=values,
    )
    return [one.call for one in closed]


def test_every_signal_of_speech_is_measured() -> None:
    rng = np.random.default_rng(0)
    samples = (rng.standard_normal(SAMPLE_RATE) * 0.1).astype(np.float32)
    signals = utterance(quality.measure(samples), text="call my mother", confidence=0.9)
    assert signals.keys() == set(SIGNALS)
    assert signals["duration_s"] == 1.0
    assert signals["speaking_rate"] == 12.0
    assert (signals["confidence"], signals["empty"]) == (0.9, 0.0)


def test_an_empty_answer_has_no_speaking_rate() -> None:
    samples = np.zeros(SAMPLE_RATE, dtype=np.float32)
    signals = utterance(quality.measure(samples), text="", confidence=0.0)
    assert signals["empty"] == 1.0
    assert "speaking_rate" not in signals
    assert all(math.isfinite(value) for value in signals.values())


def test_a_call_is_over_when_others_have_begun() -> None:
    calls = book(close_after_calls=3)
    assert [say(calls, name) for name in "abc"] == [[], [], []]
    assert say(calls, "d") == ["a"]
    assert say(calls, "b", event="again") == []
    assert say(calls, "e") == []
    assert say(calls, "f") == ["c"]
    assert say(calls, "a", event="late") == []
    assert calls.late == 1


def test_other_partitions_close_nothing() -> None:
    calls = book(close_after_calls=1, idle_seconds=1)
    say(calls, "a", partition=0)
    assert say(calls, "b", partition=1, at=100) == []
    assert say(calls, "c", partition=0) == ["a"]


def test_a_call_is_over_when_its_partition_has_moved_on() -> None:
    calls = book(close_after_calls=99, idle_seconds=60)
    say(calls, "a", at=0)
    assert say(calls, "b", at=59) == []
    assert say(calls, "b", at=60) == ["a"]


def test_a_server_whose_clock_is_behind_does_not_make_its_calls_old() -> None:
    calls = book(close_after_calls=99, idle_seconds=60)
    say(calls, "ahead", at=3600)
    assert say(calls, "behind", at=0) == []
    assert say(calls, "behind", at=1) == []


def test_the_last_calls_are_over_when_the_log_stays_silent() -> None:
    calls = book(idle_seconds=60)
    say(calls, "a", at=100)
    assert calls.advance({0: 59}) == []
    assert [one.call for one in calls.advance({0: 60})] == ["a"]


def test_a_long_call_counts_before_it_ends() -> None:
    calls = book()
    closed = [say(calls, "a", event=str(n)) for n in range(LARGEST_CALL)]
    assert closed == [[]] * (LARGEST_CALL - 1) + [["a"]]


def test_means_leave_out_what_was_not_measured() -> None:
    calls = book(close_after_calls=1)
    calls.add(call="a", partition=0, event="1", at=0, signals={"snr_db": 10.0, "empty": 0.0})
    calls.add(call="a", partition=0, event="2", at=0, signals={"empty": 1.0})
    (closed,) = calls.add(call="b", partition=0, event="3", at=0, signals={})
    means = dict(zip(SIGNALS, closed.means(2).tolist(), strict=True))
    assert (means["snr_db"], means["empty"]) == (10.0, 0.5)
    assert math.isnan(means["confidence"])
    assert closed.size == 2


Said = tuple[str, int, float]


@settings(deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 3), st.floats(0, 500)), max_size=60
    ),
    st.lists(st.tuples(st.integers(0, 59), st.integers(0, 30)), max_size=20),
)
def test_each_call_counts_once_and_deliveries_again_change_nothing(
    said: list[Said], again: list[tuple[int, int]]
) -> None:
    def watch(order: list[Said]) -> list[tuple[str, int]]:
        calls = book(close_after_calls=4)
        closed: list[ClosedCall] = []
        for call, number, at in order:
            closed += calls.add(
                call=call, partition=0, event=f"{call}{number}", at=at, signals={"snr_db": at}
            )
        closed += calls.advance({0: 61.0})
        assert not calls.open
        return [(one.call, one.size) for one in closed]

    first = watch(said)
    names = [call for call, _ in first]
    assert sorted(names) == sorted({call for call, *_ in said})
    repeated = list(said)
    for place, later in sorted(again, reverse=True):
        if place < len(said):
            repeated.insert(place + 1 + later, said[place])
    assert watch(repeated) == first


def test_memory_of_calls_is_bounded() -> None:
    calls = book(close_after_calls=1)
    for number in range(REMEMBERED_CALLS + 50):
        say(calls, str(number))
    assert len(calls.over) == REMEMBERED_CALLS
    assert len(calls.open) == 1


@pytest.mark.parametrize("name", SIGNALS)
def test_signals_have_the_names_of_the_one_definition(name: str) -> None:
    known = {signal.name for signal in quality.SIGNALS} | {"confidence", "empty"}
    assert name in known
