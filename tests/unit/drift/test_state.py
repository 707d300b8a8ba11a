import pytest

from hearloop.drift import detectors
from hearloop.drift.policy import MonitorPolicy
from hearloop.drift.signals import SIGNALS
from hearloop.drift.state import Alarm, StateStore
from hearloop.errors import IntegrityError
from hearloop.testing import InMemoryObjects

URI = "s3://bucket/monitor/state.json"
POLICY = MonitorPolicy()


def test_a_monitor_begins_with_nothing() -> None:
    state = StateStore(InMemoryObjects(), "bucket").load(POLICY)
    assert (state.calls, state.champion, state.alarm) == (0, None, None)
    assert state.share == POLICY.review_share


def test_everything_is_found_again() -> None:
    objects = InMemoryObjects()
    store = StateStore(objects, "bucket")
    state = store.load(POLICY)
    state.reset("1", "2025-01-31T12:00:00+00:00")
    state.book.add(call="a", partition=2, event="e", at=1.5, signals={"snr_db": 20.0})
    state.statistic = (detectors.initial(len(SIGNALS)) + 1e99).tolist()
    state.alarm = Alarm(
        call_number=3,
        since_reference=3,
        model_version="1",
        raised_at="2025-01-31T12:00:00+00:00",
        statistic=1e4,
        signals={"snr_db": 1.0},
    )
    state.alarms.append(state.alarm)
    store.save(state)
    assert StateStore(objects, "bucket").load(POLICY) == state


def test_the_policy_of_today_holds_for_the_calls_of_yesterday() -> None:
    objects = InMemoryObjects()
    store = StateStore(objects, "bucket")
    store.save(store.load(POLICY))
    state = store.load(MonitorPolicy(close_after_calls=2, idle_seconds=5.0))
    assert (state.book.close_after_calls, state.book.idle_seconds) == (2, 5.0)


def test_other_signals_begin_anew() -> None:
    objects = InMemoryObjects()
    store = StateStore(objects, "bucket")
    state = store.load(POLICY)
    state.reset("1", "2025-01-31T12:00:00+00:00")
    state.signals = ("renamed", *SIGNALS[1:])
    store.save(state)
    again = store.load(POLICY)
    assert again.champion is None
    assert again.detector.shape == detectors.initial(len(SIGNALS)).shape


def test_only_changes_are_written() -> None:
    objects = InMemoryObjects()
    store = StateStore(objects, "bucket")
    state = store.load(POLICY)
    store.save(state)
    objects.delete(URI)
    store.save(state)
    assert not objects.exists(URI)
    state.calls += 1
    store.save(state)
    assert objects.exists(URI)


def test_a_damaged_state_is_named() -> None:
    objects = InMemoryObjects()
    objects.put(URI, b"{")
    with pytest.raises(IntegrityError, match="monitor/state"):
        StateStore(objects, "bucket").load(POLICY)
