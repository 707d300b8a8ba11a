"""How fast training is, and how much memory it takes: `python -m benchmarks.training FIGURE…`.

On an idle machine. `workers`: two torchrun workers with a thread each over one worker with two, in
batches of twice the usual seconds: as much for each of the two as one worker has. The usual batch
is halved between them in `two_workers_speed_usual_batch`; three utterances at a time keep a core
less busy.
`memory`: what is resident after 1,000 steps over that after 200. `resume`: from the new start of
torchrun, killed with both of its workers, to their next step, the median of some times; curves go
to MLflow.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import psutil
import torch
from mlflow import MlflowClient
from safetensors.numpy import save

from benchmarks.results import record
from hearloop.architecture import Architecture
from hearloop.features import MEL_BINS
from hearloop.model import Model, build
from hearloop.recipe import Augmentation, TrainingConfig
from hearloop.testing import InMemoryObjects
from hearloop.training import FeatureSet, TorchrunLauncher, train
from hearloop.training.batches import Example
from hearloop.training.checkpoints import Checkpoints
from hearloop.training.curves import Curves, progress_bar
from hearloop.training.launcher import start
from hearloop.training.loop import Trainer
from hearloop.training.request import StagedTraining, TrainingRequest

COMMAND: Final = "python -m benchmarks.training"
STEPS: Final = 120
ROUNDS: Final = 3
UTTERANCES: Final = 400
SECONDS: Final = (1.0, 6.0)
CHARACTERS_A_SECOND: Final = 12
ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz"
ARCHIVE: Final = "s3://features/timed"
CONFIG: Final = TrainingConfig(
    steps=STEPS, augmentation=Augmentation(rooms=0.6, noise=0.3, voices=0.5)
)
"""The augmentation of `benchmarks.recognition`: all of it."""
MEMORY_STEPS: Final = (200, 1000)
MEMORY_BATCH_SECONDS: Final = 8.0
"""Short batches, for time; their utterances last from 1 to 6 s all the same."""


def speech() -> list[Example]:
    """Features and texts of the lengths that speech has; what they say does not matter here."""
    rng = np.random.default_rng(0)
    examples = []
    for number in range(UTTERANCES):
        seconds = rng.uniform(*SECONDS)
        ids = tuple(rng.integers(1, len(ALPHABET), round(seconds * CHARACTERS_A_SECOND)).tolist())
        features = rng.normal(-6.0, 4.0, (round(seconds * 100), MEL_BINS)).astype(np.float16)
        text = "".join(ALPHABET[index - 1] for index in ids)
        examples.append(Example(id=str(number), features=features, ids=ids, text=text))
    return examples


def stored(examples: Sequence[Example]) -> InMemoryObjects:
    """The examples as an archive, four of them for development."""
    rows = [
        {
            "id": one.id,
            "split": "dev" if number < 4 else "train",
            "text": one.text,
            "frames": len(one.features),
        }
        for number, one in enumerate(examples)
    ]
    features = np.concatenate([one.features for one in examples])
    body = save({"features": features}, metadata={"rows": json.dumps(rows)})
    shard = {"name": "shard-00000.safetensors", "sha256": hashlib.sha256(body).hexdigest()}
    objects = InMemoryObjects()
    objects.put(f"{ARCHIVE}/{shard['name']}", body)
    objects.put(f"{ARCHIVE}/manifest.json", json.dumps({"shards": [shard]}).encode())
    return objects


def network() -> Model:
    """The default family's."""
    torch.manual_seed(0)
    return build(Architecture(vocabulary=len(ALPHABET) + 3))


# Workers.


def speed(config: TrainingConfig, objects: InMemoryObjects) -> float:
    """Audio seconds a second of its workers, which share the cores."""
    sets = [FeatureSet(role="new", archive=f"{ARCHIVE}/manifest.json")]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        summary = train(
            config,
            sets=sets,
            base_bundle=None,
            output=home / "bundle",
            work=home / "work",
            launcher=TorchrunLauncher(objects, home / "cache"),
        )
    return summary.audio_seconds_per_second


def two_over_one(config: TrainingConfig, objects: InMemoryObjects) -> float:
    """Speed of two workers to that of one, in turns, so that a slow minute hits both."""
    one, two = [], []
    for _ in range(ROUNDS):
        one.append(speed(config, objects))
        two.append(speed(replace(config, workers=2), objects))
        print(f"one worker {one[-1]:.0f}, two workers {two[-1]:.0f} audio s/s", flush=True)
    return float(np.median(two) / np.median(one))


def workers() -> None:
    """Whole batches for each of two workers, then halves."""
    os.environ.pop("OMP_NUM_THREADS", None)  # the launcher shares the cores out
    objects, command = stored(speech()), f"{COMMAND} workers"
    both = replace(CONFIG, batch_seconds=2 * CONFIG.batch_seconds)
    record("speech", "two_workers_speed", two_over_one(both, objects), "ratio", command)
    usual = two_over_one(CONFIG, objects)
    record("speech", "two_workers_speed_usual_batch", usual, "ratio", command)


# Memory, resuming.


def memory() -> None:
    """One process, utterances of mixed durations, the whole loop."""
    first, last = MEMORY_STEPS
    config = replace(CONFIG, steps=last, batch_seconds=MEMORY_BATCH_SECONDS)
    trainer = Trainer(network(), speech(), config)
    process, resident = psutil.Process(), {}
    with tempfile.TemporaryDirectory() as folder, progress_bar(last) as bar:
        checkpoints = Checkpoints(Path(folder), "memory")
        curves = Curves(Path(folder) / "curves.jsonl", run_id=None, tracking_uri="")
        for _ in range(last):
            step = trainer.step()
            curves.step(step)
            bar.step(step)
            if step.number % 100 == 0:
                checkpoints.save(trainer, 0.0)
                resident[step.number] = process.memory_info().rss
                print(f"step {step.number}: {resident[step.number] / 2**20:.0f} MiB", flush=True)
    growth = resident[last] / resident[first]
    record("speech", "training_memory_growth", growth, "ratio", f"{COMMAND} memory")


def resume() -> None:
    """All are killed after the first checkpoint; from torchrun's new start to the next step."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["HEARLOOP_MLFLOW_TRACKING_URI"] = f"sqlite:///{work / 'mlflow.db'}"
        client = MlflowClient(os.environ["HEARLOOP_MLFLOW_TRACKING_URI"])
        experiment = client.create_experiment("training", str(work / "artifacts"))
        staged = staged_in(work, client.create_run(experiment).info.run_id)
        first = start(staged, WORKERS)
        await_lines(work, RESUMED_STEPS + 10)
        kill(first)
        taken = []
        for _ in range(ROUNDS):
            lines = await_lines(work, 0)
            began = time.perf_counter()
            again = start(staged, WORKERS)
            await_lines(work, lines + 1)
            taken.append(time.perf_counter() - began)
            kill(again)
            print(f"resumed in {taken[-1]:.1f} s", flush=True)
    record("speech", "resume_seconds", float(np.median(taken)), "s", f"{COMMAND} resume")


WORKERS: Final = 2
RESUMED_STEPS: Final = 100
"""After which a worker writes its first checkpoint."""


def staged_in(work: Path, run_id: str) -> Path:
    """A training of short batches, as the launcher stages it for its workers."""
    objects = stored(speech())
    shard = work / "shard-00000.safetensors"
    shard.write_bytes(objects.get(f"{ARCHIVE}/{shard.name}"))
    config = replace(CONFIG, steps=1000, batch_seconds=MEMORY_BATCH_SECONDS, workers=WORKERS)
    sets = (FeatureSet(role="new", archive=f"{ARCHIVE}/manifest.json"),)
    staged = StagedTraining(
        request=TrainingRequest(config=config, sets=sets, run_id=run_id),
        shards=((shard,),),
        base=None,
        work=work,
        output=work / "bundle",
    )
    path = work / "staged.json"
    path.write_text(staged.to_json())
    return path


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End torchrun with -9 and then its workers, which it would start again."""
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    psutil.wait_procs(workers)


def await_lines(work: Path, count: int) -> int:
    """Wait until the curves have so many lines; returns how many they have."""
    path = work / "curves.jsonl"
    while True:
        lines = path.read_bytes().count(b"\n") if path.exists() else 0
        if lines >= count:
            return lines
        time.sleep(0.02)


FIGURES: Final = {
    "workers": workers,
    "memory": memory,
    "resume": resume,
}


def main(names: Sequence[str]) -> None:
    """Measure some figures, or all."""
    for name in names or FIGURES:
        FIGURES[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
