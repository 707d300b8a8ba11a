"""Training in real worker processes: killed, stopped, on a full disk, adapted, by two workers."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from hearloop.bundle import verify
from hearloop.errors import TrainingFailed
from hearloop.features import log_mel
from hearloop.recipe import TrainingConfig
from hearloop.recogniser import Recogniser
from hearloop.testing import InMemoryObjects
from hearloop.training import FeatureSet, TorchrunLauncher, train
from hearloop.training.__main__ import main
from hearloop.training.remote import RemoteTraining
from hearloop.training.request import StagedTraining, TrainingRequest, TrainingSummary

pytestmark = pytest.mark.timeout(600)

PITCHES = {"a": 400.0, "b": 1100.0, "c": 2600.0}
"""A language of beeps: each letter is a tone, so that a few steps learn something."""

TINY = TrainingConfig(steps=8, batch_seconds=4.0, seed=3)


def beeps(text: str, rng: np.random.Generator) -> np.ndarray:
    parts = [np.zeros(2000)]
    for letter in text:
        times = np.arange(int(rng.uniform(1800, 2600))) / 16_000
        pitch = PITCHES[letter] * rng.uniform(0.95, 1.05)
        parts += [0.2 * np.sin(2 * np.pi * pitch * times), np.zeros(1200)]
    samples = np.concatenate(parts)
    return (samples + 0.001 * rng.normal(size=len(samples))).astype(np.float32)


def write_shard(path: Path, *, seed: int, count: int) -> Path:
    """A shard as `feature_archive` writes them; every fourth utterance is for development."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    matrices = []
    for number in range(count):
        text = "".join(rng.choice(list(PITCHES), size=rng.integers(2, 6)))
        matrices.append(log_mel(beeps(text, rng)).astype(np.float16))
        split = "dev" if number % 4 == 0 else "train"
        row = {"id": f"{seed}-{number}", "split": split, "text": text, "frames": len(matrices[-1])}
        rows.append(row)
    save_file({"features": np.concatenate(matrices)}, path, metadata={"rows": json.dumps(rows)})
    return path


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shard(tmp_path_factory.mktemp("shards") / "one.safetensors", seed=1, count=32)


def stage(work: Path, shard: Path, config: TrainingConfig = TINY) -> StagedTraining:
    sets = (FeatureSet(role="new", archive="s3://features/one/manifest.json"),)
    staged = StagedTraining(
        request=TrainingRequest(config=config, sets=sets),
        shards=((shard,),),
        base=None,
        work=work,
        output=work / "bundle",
    )
    work.mkdir(parents=True, exist_ok=True)
    (work / "staged.json").write_text(staged.to_json())
    return staged


def run_worker(work: Path, prelude: str) -> "subprocess.CompletedProcess[str]":
    """One worker without torchrun, to its end; `prelude` is Python that runs before it."""
    code = (
        "import sys; from hearloop.training import worker; from hearloop.training.__main__ import "
        f"main\n{prelude}\nsys.exit(main(sys.argv[1]))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(work / "staged.json")],
        env=os.environ | {"RANK": "0", "WORLD_SIZE": "1", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def train_in_one_go(work: Path, shard: Path) -> TrainingSummary:
    stage(work, shard)
    worker = run_worker(work, "worker._CHECKPOINT_STEPS = 3")
    assert worker.returncode == 0, worker.stderr
    return TrainingSummary.from_json((work / "summary.json").read_text())


def losses(work: Path) -> dict[int, float]:
    """Loss of each step; a step that was done twice must have come out the same."""
    found: dict[int, float] = {}
    for line in (work / "curves.jsonl").read_text().splitlines():
        point = json.loads(line)
        if "loss" in point:
            assert found.setdefault(point["step"], point["loss"]) == point["loss"]
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, shard: Path) -> Path:
    work = tmp_path_factory.mktemp("uninterrupted")
    train_in_one_go(work, shard)
    return work


def kill_at(step: int) -> str:
    """Python that kills the worker, as a lost machine would, in the middle of a step."""
    return (
        "import os, signal; from hearloop.training.loop import Trainer\n"
        "worker._CHECKPOINT_STEPS = 3\n"
        "before = Trainer._over_workers\n"
        "def dies(trainer, loss, stop):\n"
        f"    if trainer.steps_done == {step}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return before(trainer, loss, stop)\n"
        "Trainer._over_workers = dies\n"
    )


@pytest.mark.parametrize("step", [2, 7])  # before the first checkpoint, and after the second
def test_killed_at_any_step_it_ends_with_the_same_bits(
    step: int, uninterrupted: Path, shard: Path, tmp_path: Path
) -> None:
    stage(tmp_path, shard)
    assert run_worker(tmp_path, kill_at(step)).returncode == -signal.SIGKILL
    assert not (tmp_path / "bundle").exists()
    train_in_one_go(tmp_path, shard)
    assert losses(tmp_path) == losses(uninterrupted)
    assert set(losses(tmp_path)) == set(range(1, TINY.steps + 1))
    assert verify(tmp_path / "bundle").digest == verify(uninterrupted / "bundle").digest


def test_sigterm_saves_and_the_next_run_goes_on(
    uninterrupted: Path, shard: Path, tmp_path: Path
) -> None:
    stage(tmp_path, shard)
    terminate = kill_at(4).replace("SIGKILL", "SIGTERM").replace("dies", "asked")
    assert run_worker(tmp_path, terminate).returncode == 128 + signal.SIGTERM
    (checkpoint,) = (tmp_path / "checkpoints").glob("00000005-*")
    assert checkpoint.stat().st_size > 0
    before = len((tmp_path / "curves.jsonl").read_text().splitlines())
    train_in_one_go(tmp_path, shard)
    assert len(losses(tmp_path)) == TINY.steps
    assert before == 7  # five steps and two looks at the development set
    assert verify(tmp_path / "bundle").digest == verify(uninterrupted / "bundle").digest


def test_sigterm_while_candidates_are_judged_ends_it_and_the_steps_are_kept(
    uninterrupted: Path, shard: Path, tmp_path: Path
) -> None:
    stage(tmp_path, shard)
    asked = "import os, signal; before = worker._Run._candidates\n" + (
        "def candidates(run):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return before(run)\n"
        "worker._Run._candidates = candidates\n"
    )
    assert run_worker(tmp_path, asked).returncode == 128 + signal.SIGTERM
    before = (tmp_path / "curves.jsonl").read_text()
    train_in_one_go(tmp_path, shard)
    assert (tmp_path / "curves.jsonl").read_text().startswith(before)
    assert len(losses(tmp_path)) == TINY.steps
    assert verify(tmp_path / "bundle").digest == verify(uninterrupted / "bundle").digest


def test_a_full_disk_leaves_the_checkpoint_before(shard: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the same write fails half way."""
    stage(tmp_path, shard)
    full = kill_at(6).replace("SIGKILL", "SIGTERM") + (
        "import resource; from hearloop.training import checkpoints\n"
        "save = checkpoints.Checkpoints.save\n"
        "def fills(self, trainer, seconds):\n"
        "    if trainer.steps_done > 3:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))\n"
        "    return save(self, trainer, seconds)\n"
        "checkpoints.Checkpoints.save = fills\n"
    )
    errors = run_worker(tmp_path, full).stderr
    assert "cannot be written" in errors
    assert str(tmp_path) in errors
    assert [path.name[:8] for path in (tmp_path / "checkpoints").iterdir()] == ["00000003"]
    assert train_in_one_go(tmp_path, shard).checkpoints_failed == 0
    assert len(losses(tmp_path)) == TINY.steps


@pytest.fixture
def stored(shard: Path) -> tuple[InMemoryObjects, FeatureSet]:
    import hashlib

    objects = InMemoryObjects()
    body = shard.read_bytes()
    entry = {"name": "shard-00000.safetensors", "sha256": hashlib.sha256(body).hexdigest()}
    objects.put("s3://features/one/shard-00000.safetensors", body)
    objects.put("s3://features/one/manifest.json", json.dumps({"shards": [entry]}).encode())
    return objects, FeatureSet(role="new", archive="s3://features/one/manifest.json")


def test_torchrun_trains_and_then_adapts(
    stored: tuple[InMemoryObjects, FeatureSet], tmp_path: Path
) -> None:
    objects, features = stored
    launcher = TorchrunLauncher(objects, tmp_path / "cache")
    config = replace(TINY, steps=120, batch_seconds=8.0)
    places = {"output": tmp_path / "base", "work": tmp_path / "work"}
    base = train(config, sets=[features], base_bundle=None, launcher=launcher, **places)
    assert base.steps == 120
    assert base.before is None
    rng = np.random.default_rng(5)
    recogniser = Recogniser.load(tmp_path / "base")
    assert recogniser.transcribe(beeps("abca", rng)).text == "abca"
    assert recogniser.transcribe(np.zeros(16_000, np.float32)).text == ""

    again = train(config, sets=[features], base_bundle=None, launcher=launcher, **places)
    assert again == base  # nothing was done again

    adapted = train(
        replace(
            config,
            steps=4,
            replay_utterances=5,
            average_with_base=(0.5, 1.0),
            other_learning_rates=(1e-4,),
            averaged_checkpoints=2,
        ),
        sets=[features, FeatureSet(role="replay", archive=features.archive)],
        base_bundle=tmp_path / "base",
        output=tmp_path / "adapted",
        work=tmp_path / "work2",
        launcher=launcher,
    )
    tried = [(one.learning_rate, one.share) for one in adapted.candidates]
    assert tried == [(2e-3, 0.5), (2e-3, 1.0), (1e-4, 0.5), (1e-4, 1.0)]
    assert (adapted.learning_rate, adapted.share) in tried
    assert sorted(losses(tmp_path / "work2")) == list(range(1, 9))  # four steps for each rate
    assert (tmp_path / "work2" / "adaptation.md").read_text().count("| chosen |") == 1
    assert adapted.before is not None
    assert adapted.before.new_wer == pytest.approx(base.dev_wer)
    assert adapted.learnt == adapted.before.new_wer - adapted.dev_wer
    assert verify(tmp_path / "adapted").digest != verify(tmp_path / "base").digest


def test_a_pod_answers_in_object_storage(
    stored: tuple[InMemoryObjects, FeatureSet],
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker's entry point as a TrainJob's pod runs it, here in this process."""
    objects, features = stored
    folder = "s3://artifacts/trainings/one"
    remote = RemoteTraining(folder, objects, tmp_path / "here")
    remote.ask(TrainingRequest(config=TINY, sets=(features,)), None)
    monkeypatch.setattr("hearloop.composition.objects", lambda settings: objects)
    monkeypatch.setenv("HEARLOOP_CACHE", str(tmp_path / "pod"))
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert main(folder) == 0
    summary = remote.answered()
    assert summary is not None
    assert summary.steps == TINY.steps
    remote.fetch_bundle(tmp_path / "fetched")
    assert verify(tmp_path / "fetched").training == verify(uninterrupted / "bundle").training


def test_two_workers_learn_what_one_learns(
    stored: tuple[InMemoryObjects, FeatureSet], uninterrupted: Path, tmp_path: Path
) -> None:
    objects, features = stored
    train(
        replace(TINY, workers=2),
        sets=[features],
        base_bundle=None,
        output=tmp_path / "bundle",
        work=tmp_path / "work",
        launcher=TorchrunLauncher(objects, tmp_path / "cache"),
    )
    found, expected = losses(tmp_path / "work"), losses(uninterrupted)
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-3)


def run_workers(work: Path, prelude: str) -> "subprocess.CompletedProcess[str]":
    """Three workers under torchrun; `prelude` is Python that runs before each."""
    script = work / "worker.py"
    script.write_text(
        "import sys; from hearloop.training import worker\n"
        "from hearloop.training.__main__ import main\n"
        f"{prelude}\nsys.exit(main(sys.argv[1]))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "3", str(script), str(work / "staged.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_three_workers_that_are_killed_end_with_the_same_bits(shard: Path, tmp_path: Path) -> None:
    """The sum of three gradients has other bits in another order."""
    checkpoints = "worker._CHECKPOINT_STEPS = 3"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for work in (whole, killed):
        stage(work, shard, replace(TINY, workers=3))
    assert run_workers(killed, kill_at(7)).returncode != 0
    for work in (whole, killed):
        done = run_workers(work, checkpoints)
        assert done.returncode == 0, done.stderr
        assert ("training goes on after step 6" in done.stderr) == (work == killed)
    assert losses(killed) == losses(whole)
    assert verify(killed / "bundle").digest == verify(whole / "bundle").digest


def test_says_what_is_wrong_with_the_data(tmp_path: Path) -> None:
    import hashlib

    objects = InMemoryObjects()
    body = write_shard(tmp_path / "one.safetensors", seed=1, count=1).read_bytes()
    entry = {"name": "shard-00000.safetensors", "sha256": hashlib.sha256(body).hexdigest()}
    objects.put("s3://features/one/shard-00000.safetensors", body)
    objects.put("s3://features/one/manifest.json", json.dumps({"shards": [entry]}).encode())
    with pytest.raises(TrainingFailed, match="hold no train utterances"):
        train(
            TINY,
            sets=[FeatureSet(role="new", archive="s3://features/one/manifest.json")],
            base_bundle=None,
            output=tmp_path / "bundle",
            work=tmp_path / "work",
            launcher=TorchrunLauncher(objects, tmp_path / "cache"),
        )
