"""The whole pipeline on a stack of its own, from speech to a version in service: tiny, and real."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import psutil
import pytest

from hearloop import composition, steps
from hearloop.audio import encode_flac
from hearloop.client import Client
from hearloop.config import Settings
from hearloop.drift.reference import Reference
from hearloop.errors import NotFound, ServiceUnavailable
from hearloop.families import ConformerCtc, Family, Wav2Vec2Ctc
from hearloop.recipe import (
    FolderCorpus,
    PerSplit,
    Recipe,
    RolloutPolicy,
    SyntheticCorpus,
    TrainingConfig,
)
from hearloop.stack import Ports, Stack
from tests.bundles import write_random_bundle
from tests.pretrained import random_encoder, write_hugging_face_folder
from tests.unit.streaming.conftest import voice

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).parents[2]

TINY = Recipe(
    name="tiny",
    corpora=(
        SyntheticCorpus(
            seed=7,
            speakers=PerSplit(train=6, dev=2, test=20),
            utterances_per_speaker=PerSplit(train=3, dev=2, test=1),
        ),
    ),
    training=TrainingConfig(steps=2),
)
"""As little as makes a model; 20 test speakers are what the monitor's reference needs."""

FEW = PerSplit(train=2, dev=1, test=4)
"""Speakers of a challenger that is to learn nothing."""


@dataclass
class Workshop:
    """A stack and a folder where runs leave their things."""

    folder: Path
    settings: Settings
    python: Path
    """The interpreter that runs are started with."""

    def start(self, recipe: Recipe, run_id: str) -> subprocess.Popen[str]:
        """`python -m pipelines run`, as a terminal starts it: SIGHUP is not ignored there."""
        path = self.folder / f"{run_id}.json"
        path.write_text(recipe.to_json())
        command = [self.python, "-m", "pipelines", "run"]
        return subprocess.Popen(
            [*command, "--recipe", str(path), "--run-id", run_id],
            cwd=REPOSITORY,
            env=os.environ | self.settings.to_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )

    def run(self, recipe: Recipe, run_id: str) -> subprocess.CompletedProcess[str]:
        """`python -m pipelines run` to its end."""
        with self.start(recipe, run_id) as process:
            shown, errors = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, shown, errors)

    def processes(self, run_id: str) -> list[str]:
        """Command lines of the processes that work on a run."""
        every = [" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])]
        return [line for line in every if str(self.settings.pipeline_runs / run_id) in line]

    def summary(self, run_id: str) -> dict[str, Any]:
        """What a run says of itself."""
        path = self.settings.pipeline_runs / run_id / "summary.json"
        return json.loads(path.read_text())

    def log(self, run_id: str) -> str:
        """The end of a run's log, for the message of a failed assertion."""
        return (self.settings.pipeline_runs / run_id / "pipeline.log").read_text()[-4000:]

    def artifact(self, run_id: str, pattern: str) -> Path:
        """The artifact of a run's last try that matches."""
        found = (self.settings.pipeline_runs / run_id / "artifacts").glob(f"*/{pattern}")
        return max(found, key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """As somebody has it who keeps their work in a folder whose name has a space."""
    folder = tmp_path_factory.mktemp("work shop")
    (folder / "venv").symlink_to(sys.prefix, target_is_directory=True)
    stack = Stack(folder / "stack", ports=Ports.free())
    stack.up("serving")
    try:
        yield Workshop(
            folder,
            stack.settings.model_copy(
                update={"pipeline_runs": folder / "runs", "cache": folder / "cache"}
            ),
            folder / "venv" / "bin" / "python",
        )
    finally:
        stack.down()


@pytest.fixture(scope="module")
def stopped(workshop: Workshop) -> int:
    """The first run, whose terminal closed while its workers trained; returns its exit status."""
    log = workshop.settings.pipeline_runs / "first" / "pipeline.log"
    with workshop.start(TINY, "first") as process:
        while not any("staged.json" in line for line in workshop.processes("first")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.2)  # until torchrun is there
        process.send_signal(signal.SIGHUP)
        process.communicate()
    assert '"step": "train", "state": "began"' in log.read_text()
    return process.returncode


@pytest.fixture(scope="module")
def first(workshop: Workshop, stopped: int) -> subprocess.CompletedProcess[str]:
    """The first run of the stack, run again after it was stopped: there is no champion yet."""
    ended = workshop.run(TINY, "first")
    assert ended.returncode == 0, ended.stdout + ended.stderr + workshop.log("first")
    return ended


def test_a_run_that_is_told_to_end_takes_its_workers_with_it(
    workshop: Workshop, stopped: int
) -> None:
    assert stopped == 128 + signal.SIGHUP
    assert workshop.processes("first") == []


def test_a_first_model_is_built_registered_and_put_in_service(
    workshop: Workshop, first: subprocess.CompletedProcess[str]
) -> None:
    summary = workshop.summary("first")

    assert summary["verdict"] == "unjudged"
    assert summary["outcome"] == "promoted"
    registry = composition.registry(workshop.settings)
    assert registry.champion() == summary["version"]
    traffic = composition.router(workshop.settings).read().traffic
    assert traffic is not None
    assert traffic.weights == {summary["version"]: 100}


def test_the_summary_tells_what_the_run_was(
    workshop: Workshop, first: subprocess.CompletedProcess[str]
) -> None:
    summary = workshop.summary("first")

    ran = ["ingest", "validate", "extract", "train", "evaluate", "judge", "register", "roll_out"]
    assert set(summary["seconds"]) == {*ran, "total"}
    here = ran[ran.index("train") :]  # what comes before was done by the try that was stopped
    assert sum(summary["seconds"][step] for step in here) <= summary["seconds"]["total"]
    assert 0 <= summary["wer"]["new"]["challenger"] <= 2
    assert summary["train"]["steps"] == TINY.training.steps
    assert summary["ingest"]["splits"]["test"]["speakers"] == 20


def test_people_see_a_line_for_each_step_and_a_closing_table(
    first: subprocess.CompletedProcess[str],
) -> None:
    shown = first.stdout.splitlines()

    assert [line.split()[0] for line in shown[:8]] == [
        "ingest",
        "validate",
        "extract",
        "train",
        "evaluate",
        "judge",
        "register",
        "roll_out",
    ]
    assert all(re.match(r"\w+ +\d+\.\d s", line) for line in shown[:8])
    assert "KFP" not in first.stdout
    assert any(line.startswith("outcome") and "promoted" in line for line in shown)


def test_artifacts_are_there_to_be_read(
    workshop: Workshop, first: subprocess.CompletedProcess[str]
) -> None:
    assert workshop.artifact("first", "validate/data_docs/index.html").stat().st_size > 0
    report = workshop.artifact("first", "evaluate/report").read_text()
    assert "data:audio/flac;base64," in report


def test_a_version_names_what_it_learnt_from_and_carries_the_monitors_reference(
    workshop: Workshop, first: subprocess.CompletedProcess[str]
) -> None:
    summary = workshop.summary("first")
    registry = composition.registry(workshop.settings)

    lineage = registry.lineage(summary["version"])
    used = {use.context: use for use in lineage.datasets}
    assert set(used) == {"train", "dev", "new"}
    assert {use.snapshot for use in lineage.datasets} == {summary["snapshot"]}
    assert used["train"].utterances == 18
    assert used["new"].metrics["wer"] == pytest.approx(summary["wer"]["new"]["challenger"])
    assert used["train"].metrics["snr_db.p05"] <= used["train"].metrics["snr_db.p95"]
    reference = Reference.from_json(registry.attachment(summary["version"], "reference.json"))
    assert [one.name for one in reference.conditions] == ["new synthetic"]
    assert reference.speakers == 20


def test_the_same_run_again_finds_everything_done(
    workshop: Workshop, first: subprocess.CompletedProcess[str]
) -> None:
    before = workshop.summary("first")

    ended = workshop.run(TINY, "first")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    after = workshop.summary("first")
    for name in ("snapshot", "wer", "version", "verdict", "outcome"):
        assert after[name] == before[name]
    assert after["seconds"]["train"] == before["seconds"]["train"]
    with pytest.raises(NotFound):
        composition.registry(workshop.settings).lineage("2")


def test_a_challenger_that_learnt_nothing_is_held_and_the_champion_stays(
    workshop: Workshop, first: subprocess.CompletedProcess[str]
) -> None:
    champion = workshop.summary("first")["version"]
    (corpus,) = TINY.corpora
    adapted = replace(
        TINY,
        name="adapted",
        corpora=(replace(corpus, seed=8, speakers=FEW, telephone=True),),  # type: ignore[call-arg]
        training=TrainingConfig(
            steps=1, warm_start=True, replay_utterances=6, average_with_base=(0.5, 1.0)
        ),
    )

    ended = workshop.run(adapted, "second")

    assert ended.returncode == 0, ended.stdout + ended.stderr + workshop.log("second")
    summary = workshop.summary("second")
    assert summary["outcome"] == "held"
    assert summary["verdict"] in {"reject", "inconclusive"}
    assert set(summary["wer"]) == {"golden", "new"}
    assert set(summary["wer"]["golden"]) == {"champion", "challenger"}
    registry = composition.registry(workshop.settings)
    assert registry.champion() == champion
    lineage = registry.lineage(summary["version"])
    assert lineage.parent is not None
    assert lineage.parent.version == champion
    replayed = [use.snapshot for use in lineage.datasets if use.context == "replay"]
    assert replayed == [workshop.summary("first")["snapshot"]]
    held = composition.decisions(workshop.settings).list(subject=summary["version"])
    assert [one.decision for one in held] == ["held"]


def test_a_rollout_without_callers_fails_its_run_and_leaves_the_champion_all_calls(
    workshop: Workshop,
    first: subprocess.CompletedProcess[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    champion = workshop.summary("first")["version"]
    registry = composition.registry(workshop.settings)
    bundle = write_random_bundle(tmp_path / "bundle", 1)
    version = registry.register(bundle, run_id=registry.run("quiet"), datasets=[])
    for name, value in workshop.settings.to_environment().items():
        monkeypatch.setenv(name, value)
    impatient = replace(TINY, rollout=RolloutPolicy(patience_seconds=1.0))

    with pytest.raises(ServiceUnavailable, match=f"version {version} is paused .* run quiet again"):
        steps.roll_out(recipe=impatient.to_json(), run_id="quiet", version=version)

    traffic = composition.router(workshop.settings).read().traffic
    assert traffic is not None
    assert traffic.weights == {champion: 100}
    state = composition.rollout_store(workshop.settings).read(version)
    assert state is not None
    assert state.status == "paused"
    decided = composition.decisions(workshop.settings).list(subject=version)
    assert [one.decision for one in decided] == ["shift to 10 %", "paused"]


@pytest.mark.parametrize("kind", ["conformer_ctc", "wav2vec2_ctc"])
def test_another_family_is_judged_against_the_champion_and_served(
    kind: str,
    workshop: Workshop,
    first: subprocess.CompletedProcess[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = f"s3://{workshop.settings.buckets.snapshots}/tests/pretrained"
    saved = write_hugging_face_folder(tmp_path / "saved", random_encoder())
    for path in saved.iterdir():
        composition.objects(workshop.settings).put(f"{source}/{path.name}", path.read_bytes())
    families: dict[str, Family] = {
        "conformer_ctc": ConformerCtc(hidden=16, layers=2, heads=2, kernel=5, decoder_layers=1),
        "wav2vec2_ctc": Wav2Vec2Ctc(source=source, frozen_steps=1),
    }
    recipe = replace(
        TINY,
        name=kind,
        training=TrainingConfig(steps=2, family=families[kind]),
        rollout=RolloutPolicy(steps=(50,), requests_per_step=4),
    )

    ended = workshop.run(recipe, kind)

    assert ended.returncode == 0, ended.stdout + ended.stderr + workshop.log(kind)
    summary = workshop.summary(kind)
    assert summary["outcome"] == "held"  # nobody learns to speak in two steps
    for name in ("golden", "new"):
        assert set(summary["wer"][name]) == {"champion", "challenger"}

    for name, value in workshop.settings.to_environment().items():
        monkeypatch.setenv(name, value)
    speech = tmp_path / "call.flac"
    said = voice(1.5, 3)
    speech.write_bytes(encode_flac(said))
    version = summary["version"]
    with _calls(Client.of(workshop.settings), speech) as answering_versions:
        steps.roll_out(recipe=recipe.to_json(), run_id=kind, version=version)
    assert version in answering_versions
    assert composition.registry(workshop.settings).champion() == version
    answer = Client.of(workshop.settings).transcribe(speech)
    assert answer.model_version == version
    assert answer.text
    live = list(Client.of(workshop.settings).stream([said]))
    assert "".join(one.text for one in live if one.final)


@contextmanager
def _calls(client: Client, speech: Path) -> Iterator[set[str]]:
    """Callers who have a recording transcribed again and again; yields the versions they hear."""
    versions: set[str] = set()
    over = Event()

    def call() -> None:
        while not over.is_set():
            versions.add(client.transcribe(speech).model_version)

    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(call)
        try:
            yield versions
        finally:
            over.set()
        calling.result()


def test_a_broken_snapshot_stops_the_run_with_its_rows_on_the_last_line(
    workshop: Workshop,
) -> None:
    folder = workshop.folder / "leaky"
    folder.mkdir()
    rng = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "audio", "text", "speaker", "split"])
        for name, split in (("one", "train"), ("two", "dev"), ("three", "test")):
            noise = rng.normal(0, 0.1, 16000).astype(np.float32)
            (folder / f"{name}.flac").write_bytes(encode_flac(noise))
            rows.writerow([name, f"{name}.flac", f"number {name}", "ann", split])
    corpus = FolderCorpus(location=str(folder / "manifest.csv"), disjoint_speakers=True)

    ended = workshop.run(replace(TINY, corpora=(corpus,)), "leaky")

    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert "no speaker of a corpus with disjoint speakers is in two splits" in last
    assert "one" in last
    assert "three" in last
    assert "train" not in ended.stdout.split()
    kept = composition.run_records(workshop.settings, "leaky").kept("data_docs/index.html")
    assert b"<html" in kept
