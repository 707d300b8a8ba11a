import os
from pathlib import Path

import pytest

from hearloop.recipe import TrainingConfig
from hearloop.training import launcher
from hearloop.training.launcher import train
from hearloop.training.request import TrainingRequest, TrainingSummary
from tests.bundles import write_random_bundle

CONFIG = TrainingConfig(steps=1)
SUMMARY = TrainingSummary(
    steps=1,
    seconds=1.0,
    audio_seconds_per_second=1.0,
    dev_wer=0.1,
    share=1.0,
    candidates=(),
    before=None,
    checkpoints_failed=0,
    curve_points_lost=0,
)


class Launcher:
    """Trains at once, and counts."""

    def __init__(self) -> None:
        self.runs = 0

    def run(
        self, request: TrainingRequest, *, base_bundle: Path | None, output: Path, work: Path
    ) -> TrainingSummary:
        self.runs += 1
        write_random_bundle(output, 1, training=request.digest)
        return SUMMARY


def learn(folder: Path, one: Launcher) -> TrainingSummary:
    return train(
        CONFIG,
        sets=[],
        base_bundle=None,
        output=folder / "bundle",
        work=folder / "work",
        launcher=one,
    )


def test_what_is_trained_is_not_trained_again_and_a_torn_summary_is_no_summary(
    tmp_path: Path,
) -> None:
    one = Launcher()
    assert learn(tmp_path, one) == learn(tmp_path, one) == SUMMARY
    assert one.runs == 1
    (tmp_path / "work" / "summary.json").write_text('{"steps": 1, "sec')
    assert learn(tmp_path, one) == SUMMARY
    assert one.runs == 2


@pytest.mark.parametrize("left", [None, '{"kind": "Mem', "{}"])
def test_a_failure_without_a_reason_says_where_to_look(tmp_path: Path, left: str | None) -> None:
    if left is not None:
        (tmp_path / "failure.json").write_text(left)
    assert "torchrun ended with status 9" in launcher._reason(9, tmp_path)


def test_workers_share_the_cores_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads = [launcher._environment(workers)["OMP_NUM_THREADS"] for workers in (1, 2, 16)]
    assert threads == ["8", "4", "1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert launcher._environment(2)["OMP_NUM_THREADS"] == "3"
