from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hearloop.drift.policy import MonitorPolicy
from hearloop.drift.reference import Reference
from hearloop.drift.watch import Watch
from hearloop.errors import ServiceUnavailable
from hearloop.recipe import CorrectionsCorpus, Recipe
from tests.unit.drift.traffic import START, TOPIC, Callers, Deployment, reference

POLICY = MonitorPolicy(close_after_calls=3, enough_minutes=10.0, budget_runs=2)


@pytest.fixture(scope="module")
def known() -> Reference:
    return reference()


@pytest.fixture
def deployment(tmp_path: Path, known: Reference) -> Iterator[Deployment]:
    one = Deployment(tmp_path)
    one.promote("1", known)
    yield one
    one.close()


def listen(watch: Watch) -> None:
    while watch.listen(0.0):
        pass
    watch.decide()


def decisions(deployment: Deployment, kind: str) -> list[str]:
    return [one.decision for one in deployment.decisions.list(kind=kind)]


def test_unchanged_calls_stay_silent_and_changed_ones_ask_for_labels(
    deployment: Deployment,
) -> None:
    watch, callers = deployment.watch(POLICY), Callers(1)
    deployment.answer(callers, 60)
    listen(watch)
    assert not watch.status()["shift"]
    deployment.answer(callers, 40, changed=True)
    listen(watch)
    status = watch.status()
    (alarm,) = status["alarms"]
    assert 60 < alarm["call_number"] < 85
    assert {"bandwidth_hz", "confidence"} <= set(list(alarm["signals"])[:4])
    assert status["review"]["share"] == POLICY.review_share_after_shift
    assert decisions(deployment, "shift") == ["ask for labels"]
    assert decisions(deployment, "review") == ["put up 25% of calls"]
    assert deployment.launcher.states == {}
    assert decisions(deployment, "retrain") == ["hold"]


def test_harm_on_corrected_calls_starts_one_run_with_their_range(deployment: Deployment) -> None:
    watch, callers = deployment.watch(POLICY), Callers(2)
    deployment.correct(deployment.answer(callers, 5))
    deployment.correct(deployment.answer(callers, 25, changed=True))
    for _ in range(3):
        listen(watch)
    ((run_id, text),) = deployment.launcher.recipes.items()
    (corpus,) = Recipe.from_json(text).corpora
    assert isinstance(corpus, CorrectionsCorpus)
    assert (corpus.after, corpus.up_to) == (0, 60)
    starts = [one for one in deployment.decisions.list(kind="retrain") if one.decision == "start"]
    assert [one.subject for one in starts] == [run_id]
    assert starts[0].evidence["harm"]["lower"] > 0.2
    assert starts[0].evidence["corrected_minutes"] == pytest.approx(25.0)
    assert watch.status()["run_in_flight"] == run_id


def test_the_schedule_starts_a_run_without_harm_and_not_before_it_is_due(
    deployment: Deployment,
) -> None:
    policy = replace(POLICY, harm_margin=0.9, every_hours=48.0)
    watch = deployment.watch(policy)
    deployment.correct(deployment.answer(Callers(2), 30, changed=True))
    listen(watch)
    due = datetime.fromisoformat(watch.status()["retrain_due_at"])
    assert due == START + timedelta(hours=48)
    deployment.passed = timedelta(hours=48) - timedelta(minutes=1)
    restarted = deployment.watch(policy, group="restarted")
    restarted.decide()
    assert restarted.status()["reason"] == "neither due nor harm"
    assert deployment.launcher.states == {}
    deployment.passed = timedelta(hours=48)
    restarted.decide()
    assert restarted.status()["reason"] == "due"
    assert list(deployment.launcher.states.values()) == ["running"]
    restarted.decide()
    assert datetime.fromisoformat(restarted.status()["retrain_due_at"]) == due + timedelta(hours=48)


def test_corrections_that_are_not_believed_start_nothing(deployment: Deployment) -> None:
    watch = deployment.watch(POLICY)
    deployment.correct(deployment.answer(Callers(3), 30, changed=True), believed=False)
    listen(watch)
    assert deployment.launcher.states == {}
    evidence = watch.status()["evidence"]
    assert (evidence["corrected_minutes"], evidence["quarantined_minutes"]) == (0.0, 30.0)
    assert evidence["harm"]["calls"] == 0


def test_what_has_not_changed_is_not_ruled_on_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = deployment.watch(POLICY)
    said = deployment.answer(Callers(3), 10, changed=True)
    deployment.correct(said[:10], believed=False)
    listen(watch)
    watch.decide()  # the rulings themselves were new
    ruled: list[int] = []
    screen = deployment.corrections.screen

    def counted(**bounds: Any) -> Any:
        ruled.append(bounds["up_to"])
        return screen(**bounds)

    monkeypatch.setattr(deployment.corrections, "screen", counted)
    for _ in range(3):
        watch.decide()
    assert ruled == []
    deployment.correct(said[10:], believed=False)
    watch.decide()
    assert ruled == [20]
    assert watch.status()["evidence"]["quarantined_minutes"] == 10.0


def test_two_monitors_start_one_run(deployment: Deployment) -> None:
    both = [deployment.watch(POLICY, group=group) for group in ("one", "other")]
    deployment.correct(deployment.answer(Callers(4), 30, changed=True))
    for watch in both:
        watch.listen(0.0)
    for _ in range(2):
        for watch in both:
            watch.decide()
    assert len(deployment.launcher.states) == 1
    assert decisions(deployment, "retrain").count("start") == 1
    assert {watch.status()["run_in_flight"] for watch in both} == set(deployment.launcher.states)


def test_a_run_that_was_claimed_and_never_launched_is_launched_by_another(
    deployment: Deployment,
) -> None:
    deployment.correct(deployment.answer(Callers(4), 30, changed=True))
    deployment.launcher.away = True
    watch = deployment.watch(POLICY)
    with pytest.raises(ServiceUnavailable):
        listen(watch)
    deployment.launcher.away = False
    other = deployment.watch(POLICY, group="other")
    other.decide()
    assert deployment.launcher.states == {}
    deployment.passed += deployment.passed.resolution * 61_000_000
    other.decide()
    assert list(deployment.launcher.states.values()) == ["running"]


def test_a_promotion_resets_the_detectors_and_what_was_learnt_is_not_learnt_again(
    deployment: Deployment, known: Reference
) -> None:
    watch, callers = deployment.watch(POLICY), Callers(5)
    deployment.correct(deployment.answer(callers, 30, changed=True))
    listen(watch)
    listen(watch)
    assert watch.status()["shift"]
    (run_id,) = deployment.launcher.states
    deployment.promote("2", known)
    deployment.rollouts[run_id] = "promoted"
    deployment.launcher.states[run_id] = "succeeded"
    watch.decide()
    status = watch.status()
    assert (status["champion"], status["shift"], status["calls_since_reference"]) == ("2", False, 0)
    assert status["runs"][0]["ended"] == "promoted"
    assert status["evidence"]["corrected_minutes"] == 0.0
    assert status["evidence"]["harm"]["calls"] == 0
    assert len(status["alarms"]) == 1
    assert status["review"]["share"] == POLICY.review_share
    deployment.correct(deployment.answer(callers, 25, changed=True, version="2"))
    deployment.passed += deployment.passed.resolution * 25 * 3600 * 1_000_000
    listen(watch)
    (corpus,) = Recipe.from_json(list(deployment.launcher.recipes.values())[1]).corpora
    assert isinstance(corpus, CorrectionsCorpus)
    assert (corpus.after, corpus.up_to) == (60, 110)


def test_a_failed_run_is_tried_again_until_the_budget_is_spent(deployment: Deployment) -> None:
    watch = deployment.watch(
        MonitorPolicy.from_json(
            '{"close_after_calls": 3, "enough_minutes": 10, "budget_runs": 2, "cooldown_hours": 0}'
        )
    )
    deployment.correct(deployment.answer(Callers(6), 30, changed=True))
    for _ in range(5):
        listen(watch)
        for run_id in deployment.launcher.states:
            deployment.launcher.states[run_id] = "failed"
    assert len(deployment.launcher.states) == 2
    assert watch.status()["reason"] == "budget spent"
    retrains = [
        (one.decision, one.reason.split(":")[0])
        for one in deployment.decisions.list(kind="retrain")
    ]
    assert retrains == [
        ("start", "harm"),
        ("ended", "failed"),
        ("start", "harm"),
        ("ended", "failed"),
        ("hold", "budget spent"),
    ]


def test_a_run_that_was_not_promoted_waits_for_new_corrections(deployment: Deployment) -> None:
    watch = deployment.watch(
        MonitorPolicy(close_after_calls=3, enough_minutes=10, cooldown_hours=0)
    )
    deployment.correct(deployment.answer(Callers(7), 30, changed=True))
    listen(watch)
    (run_id,) = deployment.launcher.states
    deployment.launcher.states[run_id] = "succeeded"
    listen(watch)
    assert watch.status()["reason"] == "too few corrections"
    assert watch.status()["runs"][0]["ended"] == "succeeded"


def test_another_version_s_promotion_is_not_the_run_s(
    deployment: Deployment, known: Reference
) -> None:
    watch = deployment.watch(POLICY)
    deployment.correct(deployment.answer(Callers(7), 30, changed=True))
    listen(watch)
    (run_id,) = deployment.launcher.states
    deployment.promote("9", known)
    deployment.rollouts[run_id] = "rolled_back"
    deployment.launcher.states[run_id] = "succeeded"
    watch.decide()
    assert watch.status()["runs"][0]["ended"] == "succeeded"


def test_a_run_whose_rollout_paused_has_learnt_nothing_and_is_tried_again(
    deployment: Deployment,
) -> None:
    watch = deployment.watch(replace(POLICY, cooldown_hours=0.0))
    deployment.correct(deployment.answer(Callers(7), 30, changed=True))
    listen(watch)
    (run_id,) = deployment.launcher.states
    deployment.rollouts[run_id] = "paused"
    deployment.launcher.states[run_id] = "failed"  # as a pipeline ends that had to pause
    watch.decide()
    assert [run["ended"] for run in watch.status()["runs"]] == ["failed"]
    watch.decide()
    assert list(deployment.launcher.states.values()) == ["failed", "running"]


def test_a_run_that_is_promoted_after_it_had_ended_has_learnt(
    deployment: Deployment, known: Reference
) -> None:
    watch = deployment.watch(POLICY)
    deployment.correct(deployment.answer(Callers(7), 30, changed=True))
    listen(watch)
    (run_id,) = deployment.launcher.states
    deployment.launcher.states[run_id] = "failed"
    watch.decide()
    assert watch.status()["runs"][0]["ended"] == "failed"
    deployment.rollouts[run_id] = "promoted"  # somebody ran it again once calls came in
    deployment.promote("2", known)
    for one in (watch, deployment.watch(POLICY, group="restarted")):
        one.decide()
        assert one.status()["runs"][0]["ended"] == "promoted"
        assert one.status()["evidence"]["corrected_minutes"] == 0.0


def test_each_reason_is_recorded_once_and_not_every_time(deployment: Deployment) -> None:
    watch = deployment.watch(POLICY)
    for _ in range(5):
        listen(watch)
    assert decisions(deployment, "retrain") == ["hold"]


def test_events_of_other_versions_and_broken_ones_are_counted_and_left_out(
    deployment: Deployment,
) -> None:
    watch, callers = deployment.watch(POLICY), Callers(8)
    deployment.log.publish(TOPIC, "call", {"text": "?"})
    deployment.answer(callers, 2, version="canary")
    (event, *_) = deployment.answer(callers, 1)
    deployment.objects.delete(event.audio_uri)
    listen(watch)
    counts = watch.status()["counts"]
    assert (counts["malformed"], counts["other_version"]) == (1, 4)
    assert (counts["unreadable"], counts["events"]) == (1, 2)


def test_a_new_champion_is_noticed_by_its_first_answer(
    deployment: Deployment, known: Reference
) -> None:
    watch, callers = deployment.watch(POLICY), Callers(9)
    listen(watch)
    deployment.passed += deployment.passed.resolution * 2_000_000
    deployment.promote("2", known)
    deployment.answer(callers, 1, version="2")
    watch.listen(0.0)
    assert watch.status()["counts"]["other_version"] == 0


def test_a_registry_that_is_away_at_a_change_of_champion_is_asked_again(
    deployment: Deployment, known: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = deployment.watch(POLICY)
    listen(watch)
    deployment.promote("2", known)

    def away(version: str, name: str) -> bytes:
        raise ServiceUnavailable("The registry is away.")

    with monkeypatch.context() as patched:
        patched.setattr(deployment.registry, "attachment", away)
        with pytest.raises(ServiceUnavailable):
            watch.decide()
    assert watch.status()["champion"] == watch.status()["reference"]["version"] == "1"
    watch.decide()
    assert watch.status()["champion"] == watch.status()["reference"]["version"] == "2"


def test_without_a_reference_nothing_can_be_compared_and_that_is_on_record(
    deployment: Deployment,
) -> None:
    deployment.promote("2", None)
    watch = deployment.watch(POLICY)
    deployment.answer(Callers(10), 30, changed=True, version="2")
    listen(watch)
    assert watch.status()["statistic"] == 0.0
    assert watch.status()["reference"] is None
    assert decisions(deployment, "reference") == ["cannot compare"]


def test_without_a_champion_there_is_nothing_to_do(deployment: Deployment) -> None:
    deployment.registry.current = None
    watch = deployment.watch(POLICY)
    listen(watch)
    assert watch.status()["reason"] == "no champion"


def watched(status: dict[str, Any]) -> dict[str, Any]:
    return {
        name: status[name]
        for name in ("calls", "statistic", "signals", "alarms", "open_calls", "review")
    }


@pytest.mark.parametrize("died", ["before saving", "before committing"])
def test_a_restart_equals_a_replay(
    deployment: Deployment, died: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one partition, for no order is defined between several."""
    monkeypatch.setattr("hearloop.testing.PARTITIONS", 1)
    callers = Callers(11)
    deployment.watch(POLICY, group="killed").decide()
    for changed in (False, True):
        deployment.answer(callers, 15, changed=changed)
        with monkeypatch.context() as patched:
            kill(deployment, died, patched)
            with pytest.raises(KeyboardInterrupt):
                deployment.watch(POLICY, group="killed").listen(0.0)
    restarted = deployment.watch(POLICY, group="killed")
    listen(restarted)
    deployment.objects.delete("s3://artifacts/monitor/state.json")
    whole = deployment.watch(POLICY, group="whole")
    whole.decide()
    listen(whole)
    assert watched(restarted.status()) == watched(whole.status())
    assert restarted.status()["calls"] >= 25


def kill(deployment: Deployment, died: str, patched: pytest.MonkeyPatch) -> None:
    """Let the next monitor be interrupted before it writes, or after that."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    if died == "before saving":
        patched.setattr(deployment.objects, "put", interrupted)
        return
    reader = deployment.log.reader("killed", [TOPIC])
    patched.setattr(type(reader), "commit", interrupted)


def test_objects_that_are_away_lose_no_event(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = deployment.watch(POLICY)
    watch.decide()
    deployment.answer(Callers(12), 10)

    def away(uri: str) -> bytes:
        raise ServiceUnavailable(f"{uri} cannot be read.")

    with monkeypatch.context() as patched:
        patched.setattr(deployment.objects, "get", away)
        with pytest.raises(ServiceUnavailable):
            watch.listen(0.0)
    listen(watch)
    assert watch.status()["counts"]["events"] == 20


def test_the_last_calls_are_watched_when_traffic_stops(deployment: Deployment) -> None:
    watch = deployment.watch(POLICY)
    deployment.answer(Callers(13), 6)
    listen(watch)
    assert watch.status()["open_calls"] > 0
    deployment.passed += deployment.passed.resolution * 61_000_000
    watch.listen(0.0)
    assert (watch.status()["open_calls"], watch.status()["calls"]) == (0, 6)


def test_good_calls_of_old_neither_hide_harm_nor_clear_an_alarm(deployment: Deployment) -> None:
    watch, callers = deployment.watch(POLICY), Callers(14)
    deployment.correct(deployment.answer(callers, 60))
    listen(watch)
    changed = deployment.answer(callers, 30, changed=True)
    listen(watch)
    assert watch.status()["shift"]
    assert watch.status()["evidence"]["harm"]["upper"] == 1.0
    assert watch.status()["review"]["share"] == POLICY.review_share_after_shift
    deployment.correct(changed[:30])
    listen(watch)
    assert watch.status()["evidence"]["harm"]["calls"] == 15
    assert watch.status()["evidence"]["harm"]["lower"] > 0.3
