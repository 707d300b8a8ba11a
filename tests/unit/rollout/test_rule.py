import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hearloop.errors import InvalidInput
from hearloop.recipe import RolloutPolicy
from hearloop.rollout import (
    Action,
    Evidence,
    Reading,
    RolloutState,
    Step,
    Tally,
    Traffic,
    next_step,
)
from hearloop.rollout.rule import gather, log_e_value

POLICY = RolloutPolicy(
    steps=(10, 50), requests_per_step=20, rollback_alpha=0.01, patience_seconds=60
)


def tally(calls: int, failed: int = 0, empty: int = 0) -> Tally:
    return Tally(
        requests=calls,
        failures=failed,
        empty=empty,
        calls=calls,
        failed_calls=failed,
        empty_calls=empty,
    )


def at(percent: int) -> RolloutState:
    return RolloutState(version="2", stable="1", percent=percent)


def step(percent: int, canary: Tally, stable: Tally, epoch: str = "a") -> Step:
    return Step(percent=percent, epoch=epoch, canary=canary, stable=stable)


def test_a_first_model_goes_straight_to_100() -> None:
    action = next_step(RolloutState(version="1", stable=None), Evidence(), POLICY)
    assert (action.kind, action.percent) == ("promote", 100)


def test_a_rollout_begins_with_the_first_percentage() -> None:
    assert next_step(at(0), Evidence(), POLICY).percent == 10


def test_without_answers_it_waits_then_pauses_and_never_moves_on() -> None:
    assert next_step(at(10), Evidence(quiet_seconds=59), POLICY).kind == "wait"
    assert next_step(at(10), Evidence(quiet_seconds=60), POLICY).kind == "pause"


def test_enough_good_answers_move_it_on_and_in_the_end_promote() -> None:
    first = (step(10, tally(20), tally(180)),)
    assert next_step(at(10), Evidence(steps=first), POLICY) == Action(
        kind="shift",
        percent=50,
        reason="20 canary answers; canary: 0 of 20 calls failed, 0 had gaps; "
        "stable: 0 of 180 calls failed, 0 had gaps; e-value 1",
    )
    second = (*first, step(50, tally(20), tally(20), "b"))
    assert next_step(at(50), Evidence(steps=second), POLICY).kind == "promote"


def test_one_answer_short_of_enough_it_waits() -> None:
    steps = (step(10, tally(19), tally(180)),)
    assert next_step(at(10), Evidence(steps=steps), POLICY).kind == "wait"


def test_stored_answers_do_not_move_it_on_while_the_router_is_away() -> None:
    steps = (step(10, tally(20), tally(180)),)
    evidence = Evidence(steps=steps, current=False)
    assert next_step(at(10), evidence, POLICY).kind == "wait"
    assert next_step(at(10), replace(evidence, quiet_seconds=60), POLICY).kind == "pause"


@pytest.mark.parametrize("harm", ["failed", "empty"])
def test_a_canary_that_harms_its_calls_is_rolled_back_long_before_the_step_ends(harm: str) -> None:
    steps = (step(10, tally(4, **{harm: 4}), tally(36)),)
    assert next_step(at(10), Evidence(steps=steps), POLICY).kind == "roll_back"


def test_a_canary_that_fails_as_often_as_the_stable_version_goes_on() -> None:
    steps = (step(50, tally(200, failed=20), tally(200, failed=20)),)
    assert next_step(at(50), Evidence(steps=steps), POLICY).kind == "promote"


def test_suspicion_holds_a_canary_back_until_the_evidence_decides() -> None:
    suspicious = (step(10, tally(20, failed=2), tally(180)),)
    assert next_step(at(10), Evidence(steps=suspicious), POLICY).kind == "wait"
    cleared = (step(10, tally(200, failed=2), tally(1800, failed=20)),)
    assert next_step(at(10), Evidence(steps=cleared), POLICY).kind == "shift"


def test_suspicion_that_does_not_clear_pauses_it() -> None:
    suspicious = (step(10, tally(100, failed=4), tally(900, failed=3)),)
    action = next_step(at(10), Evidence(steps=suspicious), POLICY)
    assert action.kind == "pause"
    assert action.reason.startswith("suspicion: canary: 4 of 100 calls failed")


def test_a_single_call_that_only_fails_does_not_move_on() -> None:
    one_call = Tally(requests=40, failures=40, calls=1, failed_calls=1)
    steps = (step(50, one_call, tally(40)),)
    assert next_step(at(50), Evidence(steps=steps), POLICY).kind == "wait"


def test_a_restart_of_the_router_keeps_what_was_seen_before() -> None:
    state = at(10)
    before = Reading(traffic=state.traffic, epoch="a", tallies={"2": tally(12), "1": tally(90)})
    after = replace(before, epoch="b", tallies={"2": tally(8)})
    steps = gather(gather((), before, state), after, state)
    assert Evidence(steps=steps).canary_answers(10) == 20


def test_a_reading_of_other_traffic_is_no_evidence() -> None:
    other = Reading(traffic=Traffic(stable="1"), epoch="a", tallies={"2": tally(99)})
    assert gather((), other, at(10)) == ()


@settings(deadline=None, derandomize=True)
@given(
    stable=st.sampled_from(["1", "2"]),
    canary=st.sampled_from([None, "1", "2"]),
    percent=st.integers(-5, 105),
)
def test_weights_sum_to_100_or_the_traffic_is_refused(
    stable: str, canary: str | None, percent: int
) -> None:
    try:
        traffic = Traffic(stable=stable, canary=canary, canary_percent=percent)
    except InvalidInput:
        assert canary == stable or (canary is None) != (percent == 0) or not 0 < percent < 100
    else:
        assert sum(traffic.weights.values()) == 100
        assert all(weight > 0 for weight in traffic.weights.values())


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 30), st.integers(0, 30), st.floats(0.02, 0.98))
def test_the_e_value_is_an_expectation_of_at_most_one_where_both_fail_alike(
    failures: int, seed: int, share: float
) -> None:
    """Exactly: summed over every split of `failures`, with the probabilities of the null."""
    canary = np.arange(failures + 1)
    chances = np.array([math.comb(failures, int(k)) for k in canary], dtype=float)
    chances *= share**canary * (1 - share) ** (failures - canary)
    values = np.exp(log_e_value(canary[:, None], failures - canary[:, None], [share]))
    assert float((chances * values).sum()) == pytest.approx(1.0, rel=1e-6)


def peeked(rate_canary: float, rate_stable: float, seed: int) -> np.ndarray:
    """Largest log e-value of each of 2,000 rollouts, looked at after every one of 3,000 calls."""
    rng = np.random.default_rng(seed)
    share = np.where(np.arange(3_000) < 2_000, 0.1, 0.5)
    to_canary = rng.random((2_000, 3_000)) < share
    failed = rng.random((2_000, 3_000)) < np.where(to_canary, rate_canary, rate_stable)
    rollout, call = np.nonzero(failed)
    canary, stable = (
        np.stack(
            [
                np.cumsum(failed & arm & (share == part), axis=1, dtype=np.int32)[rollout, call]
                for part in (0.1, 0.5)
            ],
            axis=-1,
        )
        for arm in (to_canary, ~to_canary)
    )
    largest = np.zeros(2_000)
    np.maximum.at(largest, rollout, log_e_value(canary, stable, [0.1, 0.5]))
    return largest


def test_equal_canaries_are_rolled_back_no_more_often_than_declared() -> None:
    rolled_back = peeked(0.005, 0.005, seed=1) >= -math.log(POLICY.rollback_alpha)
    assert rolled_back.mean() <= POLICY.rollback_alpha


def test_a_canary_that_fails_ten_times_as_often_is_rolled_back() -> None:
    rolled_back = peeked(0.05, 0.005, seed=2) >= -math.log(POLICY.rollback_alpha)
    assert rolled_back.mean() >= 0.95


class Rollout(RuleBasedStateMachine):
    """The rule against a router that counts, restarts, falls silent, and a controller that dies."""

    @initialize(broken=st.sampled_from([False, False, True]))
    def begin(self, broken: bool) -> None:
        self.broken = broken
        self.state = RolloutState(version="2", stable="1")
        self.steps: tuple[Step, ...] = ()
        self.quiet = 0.0
        self.epoch = 0
        self.canary, self.stable = Tally(), Tally()
        self.good_answers = dict.fromkeys(POLICY.steps, 0)

    def reading(self) -> Reading:
        return Reading(
            traffic=self.state.traffic,
            epoch=str(self.epoch),
            tallies={"1": self.stable, "2": self.canary},
        )

    @rule(canary=st.integers(0, 40), stable=st.integers(0, 80))
    def calls_come(self, canary: int, stable: int) -> None:
        self.count(canary, stable)
        self.step(answers=True)

    def count(self, canary: int, stable: int) -> None:
        if self.state.status != "running" or not self.state.percent:
            return
        failed = canary if self.broken else 0
        self.canary = tally(self.canary.calls + canary, self.canary.failed_calls + failed)
        self.stable = tally(self.stable.calls + stable)
        self.good_answers[self.state.percent] += canary
        self.quiet = 0.0

    @rule(seconds=st.floats(1, 100))
    def silence(self, seconds: float) -> None:
        self.quiet += seconds

    @rule()
    def the_router_restarts(self) -> None:
        self.steps = gather(self.steps, self.reading(), self.state)
        self.epoch += 1
        self.canary, self.stable = Tally(), Tally()

    @rule()
    def the_controller_is_killed_and_resumes(self) -> None:
        stored = replace(self.state, steps=self.steps).to_json()
        self.state = RolloutState.from_json(stored)
        self.steps = self.state.steps
        self.quiet = 0.0

    @rule()
    def a_step(self) -> None:
        self.step(answers=True)

    @rule()
    def a_step_while_the_router_is_away(self) -> None:
        self.step(answers=False)

    def step(self, *, answers: bool) -> None:
        if self.state.status not in ("running", "paused"):
            return
        if answers:
            self.steps = gather(self.steps, self.reading(), self.state)
        evidence = Evidence(steps=self.steps, quiet_seconds=self.quiet, current=answers)
        action = next_step(self.state, evidence, POLICY)
        before = self.state
        self.state = replace(
            self.state,
            percent=action.percent,
            status={"promote": "promoted", "roll_back": "rolled_back", "pause": "paused"}.get(
                action.kind, "running"
            ),
        )
        if self.state.traffic != before.traffic:
            self.epoch += 1
            self.canary, self.stable = Tally(), Tally()
            self.quiet = 0.0

    @invariant()
    def weights_sum_to_100(self) -> None:
        traffic = self.state.traffic
        assert traffic is not None
        assert sum(traffic.weights.values()) == 100

    @invariant()
    def nothing_is_promoted_without_enough_answers_at_every_step(self) -> None:
        if self.state.status == "promoted":
            assert min(self.good_answers.values()) >= POLICY.requests_per_step

    @invariant()
    def a_broken_canary_is_never_promoted_nor_given_more_traffic(self) -> None:
        if self.broken and self.canary.calls:
            assert self.state.status != "promoted"
            assert self.state.percent <= POLICY.steps[0]

    @invariant()
    def a_rolled_back_canary_has_no_traffic(self) -> None:
        if self.state.status == "rolled_back":
            assert self.broken
            assert self.state.traffic == Traffic(stable="1")


TestRollout = Rollout.TestCase
TestRollout.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
