"""The summary and the claims over a story as the demo records it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from demo.callers import Answer, Said
from demo.charts import DetectorPoint
from demo.closing import details_of, summary_of, summary_so_far
from demo.poisoning import Poison
from demo.report import Stage, claims, render
from demo.scenario import SCENARIO
from demo.stage import RUNS, Stages
from demo.story import BASE_RUN, BASE_STAGE, POISON_RUN, POISON_STAGE, RETRAIN_STAGE, Judged, Story
from hearloop.audio import encode_flac
from hearloop.drift.runs import Run
from hearloop.drift.state import Alarm
from hearloop.errors import HearloopError
from hearloop.gate import gate
from hearloop.recipe import CorrectionsCorpus, GatePolicy
from hearloop.scoring import ScoredUtterance, answer
from hearloop.stack import Ports, Stack
from pipelines.recipes import retrain, synthetic
from tests.unit.demo.closing import rate
from tests.unit.judged import errors, evaluation, judged_set

USUAL = SCENARIO.usual.calls
BEGAN = datetime(2025, 1, 1, tzinfo=UTC)
SAID = Said(
    call="c1",
    speaker="ann",
    accent="en-gb-scotland",
    reference="pay the gas bill",
    audio=encode_flac(np.zeros(8000, np.float32)),
    seconds=0.5,
)


def alarm(call: int) -> Alarm:
    return Alarm(
        call_number=call,
        since_reference=call,
        model_version="1",
        raised_at=BEGAN.isoformat(),
        statistic=20_000.0,
        signals={"bandwidth_hz": 1.0},
    )


RUN = Run(
    epoch=0,
    run_id="retrain-1",
    base="1",
    reason="harm",
    after=0,
    up_to=400,
    corrections=378,
    recipe="{}",
    claimed_at=BEGAN.isoformat(),
    ended="promoted",
)


def answered(second: int, version: str) -> Answer:
    return Answer(
        said=SAID,
        call="c1",
        at=BEGAN + timedelta(seconds=second),
        milliseconds=20.0,
        request_id=f"r{second}",
        model_version=version,
    )


def judged(version: str, old: float, changed: float, heard: str) -> Judged:
    scored = ScoredUtterance(
        id="c1/0",
        speaker="ann",
        call="c1",
        reference=SAID.reference,
        seconds=0.5,
        audio_uri="",
        audio_digest="",
        slices={},
        answers={version: answer(SAID.reference, heard, 0.9)},
    )
    return Judged(base_voices=rate(old), changed_calls=rate(changed), answers=[scored])


def status(*alarms: Alarm, runs: tuple[Run, ...] = (RUN,), calls: int = 900) -> dict[str, Any]:
    """The fields of the monitor's status that the summary reads."""
    return {
        "calls": calls,
        "alarms": [asdict(one) for one in alarms],
        "runs": [asdict(one) for one in runs],
    }


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    """A demo that went well, up to the monitor's status."""
    monkeypatch.chdir(tmp_path)
    for run, seconds in ((BASE_RUN, 150.0), (RUN.run_id, 45.0), (POISON_RUN, 40.0)):
        (RUNS / run).mkdir(parents=True)
        told = {"seconds": {"train": seconds}, "judge": {"verdict": "reject"}}
        (RUNS / run / "summary.json").write_text(json.dumps(told))
    stages = Stages(Console(quiet=True))
    stages.began_at = BEGAN
    stages.done += [
        Stage(name=BASE_STAGE, began_s=10.0, seconds=200.0),
        Stage(name=RETRAIN_STAGE, began_s=300.0, seconds=90.0),
        Stage(name=POISON_STAGE, began_s=400.0, seconds=80.0),
    ]
    told = Story(
        scenario=SCENARIO,
        stack=Stack(tmp_path / "stack", ports=Ports.free()),
        folder=tmp_path,
        recipes=(synthetic(), retrain()),
        console=Console(quiet=True),
        stages=stages,
    )
    told.base, told.challenger, told.poisoned, told.champion = "1", "2", "3", "2"
    told.retrain = RUN.run_id
    told.judged = {
        "1": judged("1", 0.03, 0.4, "play the guest bill"),
        "2": judged("2", 0.032, 0.14, "pay the gas bill"),
        "3": judged("3", 0.11, 0.9, "what"),
    }
    told.groups["judged_changed"] = [[SAID]]
    told.answers = [answered(1, "1"), answered(2, "1"), answered(3, "2")]
    told.poison = Poison(
        corpus=CorrectionsCorpus(after=400, up_to=800),
        corrections=400,
        stopped=400,
        stopped_by="contributor mallory: the audio prefers others",
        trigger_if_believed="start: harm. WER on 130 corrected calls is above 40 %.",
    )
    scores = errors(0.04)
    told.verdict = gate(
        evaluation(judged_set(scores, scores), judged_set(scores, scores)),
        GatePolicy(resamples=200),
    )
    told.decided = [
        {"at": BEGAN.isoformat(), "kind": "shift", "decision": "ask", "reason": "It changed."}
    ]
    told.monitor.trace = [DetectorPoint(call=1, statistic=1.0)]
    told.alarm = asdict(alarm(USUAL + 9))
    told.monitor.seen = status(alarm(USUAL + 9))
    yield told
    told.line.close()
    told.monitor.close()


def missed(story: Story) -> list[str]:
    return [claim.measured for claim in claims(summary_of(story)) if not claim.met]


def test_a_story_that_went_well_meets_every_claim(story: Story) -> None:
    summary = summary_of(story)

    assert missed(story) == []
    assert summary["wer"]["changed_calls"] == {"base": 0.4, "challenger": 0.14}
    assert summary["alarm"] == {
        "calls_before_change": USUAL,
        "alarms_before_change": 0,
        "calls_until_alarm": 9,
    }
    assert summary["retrain"] == {"trigger": "harm", "started_by": "monitor", "corrections": 378}
    assert summary["serving"] == {
        "requests": 3,
        "failed": 0,
        "version_before": "1",
        "version_after": "2",
    }
    assert summary["poison"]["wer_if_trained"] == 0.9
    assert summary["seconds"]["training"] == 235.0
    assert json.loads(json.dumps(summary)) == summary


def test_the_report_tells_the_story(story: Story) -> None:
    page = render(summary_of(story), details_of(story))

    assert "This run showed all of it." in page
    assert "contributor mallory" in page
    assert "guest" in page


@pytest.mark.parametrize("call", [1, USUAL - 20, USUAL])
def test_an_alarm_before_the_change_is_a_false_one(story: Story, call: int) -> None:
    """Whenever it came: the demo looks at the monitor before the last usual calls have ended."""
    story.alarm = asdict(alarm(call))
    story.monitor.seen = status(alarm(call))

    assert len(missed(story)) == 2
    assert summary_of(story)["alarm"]["alarms_before_change"] == 1


def test_a_later_alarm_does_not_hide_a_false_one(story: Story) -> None:
    story.monitor.seen = status(alarm(USUAL - 1), alarm(USUAL + 9))

    assert missed(story) == [f"1 alarms in {USUAL} calls"]


def _believed(story: Story) -> None:
    story.poison = replace(story.poison, stopped=0, stopped_by="")


def _partly_believed(story: Story) -> None:
    story.poison = replace(story.poison, stopped=399)


def _too_few_to_matter(story: Story) -> None:
    story.poison = replace(story.poison, trigger_if_believed="hold: 3.1 corrected minutes of 24")


def _promoted(story: Story) -> None:
    story.champion = story.poisoned


def _nobody_in_production(story: Story) -> None:
    story.champion = None


@pytest.mark.parametrize(
    "change",
    [_believed, _partly_believed, _too_few_to_matter, _promoted, _nobody_in_production],
)
def test_poison_that_was_not_stopped_is_told(story: Story, change: Callable[[Story], None]) -> None:
    change(story)

    assert len(missed(story)) == 1


def test_a_run_that_somebody_else_started_is_told(story: Story) -> None:
    story.monitor.seen = status(
        alarm(USUAL + 9), runs=(replace(RUN, run_id="by-hand"), replace(RUN, epoch=1))
    )

    assert len(missed(story)) == 1


def test_a_failed_request_is_told(story: Story) -> None:
    story.answers.insert(1, replace(answered(2, ""), failure="timed out"))

    assert missed(story) == ["1 of 4 failed; version 1, then 2"]


def test_a_demo_that_fails_leaves_what_it_has_measured(story: Story) -> None:
    for name in ("retrain", "challenger", "poison", "poisoned", "champion"):
        delattr(story, name)
    story.judged = {"1": story.judged["1"]}
    del story.stages.done[1:]

    with pytest.raises(HearloopError) as caught, story.stages.stage("people correct"):
        raise HearloopError("The feedback route is away.")
    summary = summary_so_far(story, caught.value)

    assert summary["failed"] == {"stage": "people correct", "reason": "The feedback route is away."}
    assert set(summary) == {"failed", "wer", "alarm", "serving", "seconds"}
    assert summary["wer"] == {"base_voices": {"base": 0.03}, "changed_calls": {"base": 0.4}}
    assert summary["seconds"]["training"] == 150.0
    json.dumps(summary)
