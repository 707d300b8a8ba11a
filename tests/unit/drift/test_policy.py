from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hearloop.drift.harm import Harm
from hearloop.drift.policy import (
    Evidence,
    MonitorPolicy,
    ask_for_review,
    harmful,
    review_share,
    run_id,
    trigger,
)
from hearloop.errors import ConfigurationError

POLICY = MonitorPolicy()
HARMED = Evidence(
    champion="1",
    shift=True,
    harm=Harm(calls=30, mean=0.6, lower=0.4, upper=0.8),
    reference_wer=0.04,
    corrected_minutes=40.0,
    quarantined_minutes=0.0,
    hours_since_learning=30.0,
    hours_since_run=30.0,
    runs_in_budget=1,
    in_flight=None,
)
UNHARMED = replace(HARMED, harm=Harm(calls=30, mean=0.04, lower=0.01, upper=0.08))

shares = st.floats(0, 1)
hours = st.floats(0, 1000)
evidences = st.builds(
    Evidence,
    champion=st.none() | st.just("1"),
    shift=st.booleans(),
    harm=st.builds(Harm, calls=st.integers(0, 99), mean=shares, lower=shares, upper=shares),
    reference_wer=st.none() | shares,
    corrected_minutes=st.floats(0, 100),
    quarantined_minutes=st.floats(0, 100),
    hours_since_learning=hours,
    hours_since_run=st.none() | hours,
    runs_in_budget=st.integers(0, 9),
    in_flight=st.none() | st.just("retrain-1"),
)


@settings(deadline=None, derandomize=True, max_examples=400)
@given(evidences)
def test_it_fires_exactly_when_every_condition_holds(evidence: Evidence) -> None:
    due = evidence.hours_since_learning >= POLICY.every_hours
    since = evidence.hours_since_run
    assert trigger(evidence, POLICY).fire == (
        evidence.champion is not None
        and (due or harmful(evidence, POLICY))
        and evidence.corrected_minutes >= POLICY.enough_minutes
        and (since is None or since >= POLICY.cooldown_hours)
        and evidence.runs_in_budget < POLICY.budget_runs
        and evidence.in_flight is None
    )


@settings(deadline=None, derandomize=True, max_examples=400)
@given(evidences)
def test_a_shift_alarm_neither_starts_nor_stops_a_retrain(evidence: Evidence) -> None:
    other = replace(evidence, shift=not evidence.shift)
    assert trigger(evidence, POLICY) == trigger(other, POLICY)


@settings(deadline=None, derandomize=True)
@given(evidences, st.floats(0, 1000))
def test_quarantined_corrections_count_for_nothing(evidence: Evidence, minutes: float) -> None:
    more = replace(evidence, quarantined_minutes=minutes)
    assert trigger(evidence, POLICY).fire == trigger(more, POLICY).fire


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "harm"),
        ({"champion": None}, "no champion"),
        ({"in_flight": "retrain-1"}, "run in flight"),
        ({"corrected_minutes": 29.9, "quarantined_minutes": 50.0}, "too few corrections"),
        ({"hours_since_run": 23.0}, "cooldown"),
        ({"runs_in_budget": 4}, "budget spent"),
        ({"reference_wer": None}, "neither due nor harm"),
        ({"reference_wer": 0.36}, "neither due nor harm"),
    ],
)
def test_reasons_are_told(change: dict[str, object], reason: str) -> None:
    decision = trigger(replace(HARMED, **change), POLICY)  # type: ignore[arg-type]
    assert decision.reason == reason
    assert decision.fire == (reason == "harm")


def test_the_schedule_needs_no_harm_but_corrections() -> None:
    late = replace(UNHARMED, hours_since_learning=POLICY.every_hours)
    assert trigger(late, POLICY).reason == "due"
    assert trigger(replace(late, corrected_minutes=0.0), POLICY).reason == "too few corrections"
    assert trigger(UNHARMED, POLICY).reason == "neither due nor harm"


def test_numbers_are_in_the_detail() -> None:
    detail = trigger(replace(HARMED, corrected_minutes=3.0, quarantined_minutes=8.0), POLICY).detail
    assert "3.0 new corrected minutes of 30" in detail
    assert "8.0 more are quarantined" in detail


def test_a_shift_asks_for_labels_until_they_clear_it() -> None:
    unlabelled = replace(HARMED, harm=Harm(calls=0, mean=None, lower=0.0, upper=1.0))
    assert review_share(unlabelled, POLICY) == POLICY.review_share_after_shift
    assert review_share(HARMED, POLICY) == POLICY.review_share_after_shift
    assert review_share(UNHARMED, POLICY) == POLICY.review_share
    assert review_share(replace(unlabelled, shift=False), POLICY) == POLICY.review_share


@settings(deadline=None, derandomize=True)
@given(st.text(), shares, shares)
def test_a_larger_share_for_review_holds_the_smaller(call: str, one: float, other: float) -> None:
    assume(ask_for_review(call, min(one, other)))
    assert ask_for_review(call, max(one, other))


def test_the_share_put_up_for_review_is_the_one_asked_for() -> None:
    asked = sum(ask_for_review(f"call {number}", 0.25) for number in range(4000))
    assert 900 < asked < 1100
    assert not ask_for_review("call", 0.0)


def test_a_run_is_what_it_learns_from() -> None:
    same = {"corrections": "ab", "base": "1", "recipe": "{}", "epoch": 0}
    ids = [
        run_id(**same | change)
        for change in (  # type: ignore[arg-type]
            {},
            {},
            {"corrections": "cd"},
            {"base": "2"},
            {"recipe": "{ }"},
            {"epoch": 1},
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 5


def test_a_policy_is_read_from_json() -> None:
    policy = MonitorPolicy.from_json('{"enough_minutes": 2, "cooldown_hours": 0}')
    assert policy == MonitorPolicy(enough_minutes=2.0, cooldown_hours=0.0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"enough_minutes": 0}', "enough_minutes"),
        ('{"review_share": 2}', "review_share"),
        ('{"minutes": 3}', "minutes"),
        ("{", "the document"),
    ],
)
def test_a_wrong_policy_is_named(text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        MonitorPolicy.from_json(text)
