"""The loop closes: callers, corrections, a monitor that acts by itself, and another model.

Small and with every real service. The full demo, with its figures, is `make demo`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from demo import reviewers
from demo.callers import Answer, Line, spoken
from demo.scenario import Callers
from hearloop import composition
from hearloop.config import Settings
from hearloop.drift.policy import MonitorPolicy
from hearloop.recipe import (
    CorrectionsCorpus,
    GatePolicy,
    PerSplit,
    Recipe,
    SyntheticCorpus,
    TrainingConfig,
)
from hearloop.stack import Ports, Stack
from hearloop.telemetry import Silent

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).parents[2]
POLL_S = 0.5

BASE = Recipe(
    name="small",
    corpora=(
        SyntheticCorpus(
            seed=31,
            speakers=PerSplit(train=24, dev=2, test=20),
            utterances_per_speaker=PerSplit(train=8, dev=2, test=2),
            accents=("en-us",),
            snr_db=(25.0, 35.0),
        ),
    ),
    training=TrainingConfig(steps=260),
)
"""Enough to hear which of two texts was said, which is what corrections are weighed by."""

RETRAIN = Recipe(
    name="retrain",
    corpora=(CorrectionsCorpus(up_to=0, dev_share=0.2, test_share=0.3),),
    training=TrainingConfig(
        steps=4, warm_start=True, replay_utterances=20, average_with_base=(0.5, 1.0)
    ),
    gate=GatePolicy(),
)

POLICY = MonitorPolicy(enough_minutes=1.0, every_hours=1e-6, cooldown_hours=0.0, budget_runs=1)
"""Due at once: whether harm is seen is the demo's business and that of the monitor's own tests."""

CALLERS = Callers(
    corpus=SyntheticCorpus(
        seed=32,
        speakers=PerSplit(train=16, dev=0, test=0),
        utterances_per_speaker=PerSplit(train=2, dev=0, test=0),
        accents=("en-us",),
        snr_db=(25.0, 35.0),
    ),
    split="train",
    calls=16,
    utterances_per_call=2,
)


@dataclass(frozen=True)
class Loop:
    """What a closed loop left behind."""

    settings: Settings
    base: dict[str, Any]
    answers: list[list[Answer]]
    status: dict[str, Any]
    """The monitor's, at the end."""


def until(found: Callable[[], Any], seconds: float) -> Any:
    """Look until something is found."""
    deadline = time.monotonic() + seconds
    while not (seen := found()):
        assert time.monotonic() < deadline, f"nothing found within {seconds} s"
        time.sleep(POLL_S)
    return seen


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    folder = tmp_path_factory.mktemp("loop")
    home = folder / "stack"
    home.mkdir()
    (home / "retrain.json").write_text(RETRAIN.to_json())
    (folder / "policy.json").write_text(json.dumps(asdict(POLICY)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEARLOOP_MONITOR_POLICY", str(folder / "policy.json"))
        patch.setenv("HEARLOOP_PIPELINE_RUNS", str(folder / "runs"))
        with Stack(home, ports=Ports.free()) as stack:
            yield close_the_loop(stack.settings, folder)
    left = [one.pid for one in psutil.process_iter(["cmdline"]) if str(folder) in str(one.info)]
    assert left == []


def close_the_loop(settings: Settings, folder: Path) -> Loop:
    recipe = folder / "base.json"
    recipe.write_text(BASE.to_json())
    subprocess.run(
        [sys.executable, "-m", "pipelines", "run", "--recipe", str(recipe), "--run-id", "base"],
        cwd=REPOSITORY,
        env=os.environ | settings.to_environment(),
        check=True,
    )
    base = json.loads((folder / "runs" / "base" / "summary.json").read_text())
    line = Line(settings.serving_url, settings.serving_headers)
    answers = list(line.converse(spoken(CALLERS), at_once=2, progress=Silent()))
    line.close()
    corrections = list(reviewers.honest(answers, ("ada", "ben", "chloe", "dev")))
    reviewers.send(settings.serving_url, corrections, Silent(), headers=settings.serving_headers)

    def monitor() -> dict[str, Any]:
        seen: dict[str, Any] = httpx.get(f"{settings.monitor_url}/v1/status").json()
        return seen

    def ended() -> dict[str, Any] | None:
        seen = monitor()
        return seen if seen["runs"] and seen["runs"][0]["ended"] else None

    until(lambda: monitor()["runs"], 120.0)
    return Loop(settings, base, answers, until(ended, 600.0))


def test_callers_are_answered_by_the_first_model(loop: Loop) -> None:
    given = [answer for call in loop.answers for answer in call]
    assert [answer.failure for answer in given if answer.failure] == []
    assert {answer.model_version for answer in given} == {loop.base["version"]}
    assert len({answer.request_id for answer in given}) == len(given)


def test_the_monitor_starts_one_run_by_itself(loop: Loop) -> None:
    (run,) = loop.status["runs"]
    assert run["reason"] == "due"
    assert run["base"] == loop.base["version"]
    assert run["corrections"] > 0
    decided = httpx.get(f"{loop.settings.monitor_url}/v1/decisions?kind=retrain").json()
    assert [one["decision"] for one in decided if one["subject"] == run["run_id"]] == [
        "start",
        "ended",
    ]


def test_the_run_learnt_from_the_corrections_and_says_so(loop: Loop) -> None:
    (run,) = loop.status["runs"]
    assert run["ended"] in {"promoted", "succeeded"}
    registry = composition.registry(loop.settings)
    lineage = registry.lineage("2")
    assert lineage.parent is not None
    assert lineage.parent.version == loop.base["version"]
    (used,) = [use for use in lineage.datasets if use.context == "corrections"]
    assert used.corrections is not None
    store = composition.correction_store(loop.settings)
    known = {one.id for one in store.list(statuses=["accepted"])}
    assert set(used.corrections.ids) <= known
    assert used.corrections.ids


def test_the_champion_is_the_one_that_the_gate_let_through(loop: Loop) -> None:
    decided = composition.decisions(loop.settings).list(kind="gate")
    let_through = decided[-1].decision.endswith("roll_out")
    champion = composition.registry(loop.settings).champion()
    assert champion == ("2" if let_through else loop.base["version"])
