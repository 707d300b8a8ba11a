"""How fast training is, and how much memory it takes: `python -m benchmarks.training FIGURE…`.

On an idle machine. `efficiency`: the loop with all that it does (augmentation, curves, checkpoints)
over a bare loop of the same network on batches held in memory, SpeechBrain's beside it. `workers`:
two torchrun workers with a thread each over one worker with two. `memory`: what is resident after
1,000 steps over that after 200. `resume`: from the start of a process to its first step.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import torch
from safetensors.numpy import save
from torch import Tensor

from benchmarks.results import record
from hearloop.architecture import Architecture
from hearloop.features import MEL_BINS
from hearloop.model import Model, build
from hearloop.recipe import Augmentation, TrainingConfig
from hearloop.testing import InMemoryObjects
from hearloop.training import FeatureSet, TorchrunLauncher, train
from hearloop.training.batches import BatchPlan, Example, assemble
from hearloop.training.checkpoints import Checkpoints, restore
from hearloop.training.curves import Curves, progress_bar
from hearloop.training.loop import Trainer

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


# Loops.

Loss = Callable[..., Tensor]
Tensors = tuple[Tensor, Tensor, Tensor, Tensor]


def network() -> Model:
    """The default family's."""
    torch.manual_seed(0)
    return build(Architecture(vocabulary=len(ALPHABET) + 3))


def ours(examples: Sequence[Example], folder: Path) -> Callable[[int], float]:
    """A function that trains for so many steps and returns the seconds that they took."""
    trainer = Trainer(network(), examples, replace(CONFIG, steps=10**6))
    curves = Curves(folder / "curves.jsonl", run_id=None, tracking_uri="")
    checkpoints = Checkpoints(folder / "checkpoints", "timed")

    def run(steps: int) -> float:
        began = time.perf_counter()
        with progress_bar(steps) as bar:
            for _ in range(steps):
                step = trainer.step()
                curves.step(step)
                bar.step(step)
                if step.number % 100 == 0:
                    checkpoints.save(trainer, 0.0)
        return time.perf_counter() - began

    return run


def held(examples: Sequence[Example], steps: int) -> list[Tensors]:
    """The batches of the first steps."""
    lengths = [len(one.features) for one in examples]
    plan = BatchPlan(lengths, frames=round(CONFIG.batch_seconds * 100), seed=CONFIG.seed)
    shape = Architecture(vocabulary=len(ALPHABET) + 3)
    return [
        assemble(
            examples, plan.batch(n), shape, CONFIG.augmentation, seed=0, step=n, rank=0, workers=1
        ).to(torch.device("cpu"))
        for n in range(steps)
    ]


def optimiser(model: Model) -> torch.optim.Optimizer:
    """As the trainer's."""
    return torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )


def bare(batches: Sequence[Tensors]) -> Callable[[int], float]:
    """The same network on what is held in memory, and nothing else."""
    model = network().train()
    adam = optimiser(model)
    following = endless(batches)

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            batch = next(following)
            loss = model.loss(*batch) / len(batch[2])
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            adam.step()
        return time.perf_counter() - began

    return run


def speechbrain(batches: Sequence[Tensors]) -> Callable[[int], float]:
    """SpeechBrain's loop around the same network, also on what is held in memory."""
    from speechbrain.core import Brain, Stage

    class Recogniser(Brain):  # type: ignore[misc]
        """The network's loss is all that it adds."""

        def compute_forward(self, batch: Tensors, stage: Stage) -> Tensor:
            return self.modules.network.loss(*batch) / len(batch[2])

        def compute_objectives(self, predictions: Tensor, batch: Tensors, stage: Stage) -> Tensor:
            return predictions

    following = endless(batches)
    brain = Recogniser(
        {"network": network()},
        lambda _: optimiser(brain_network(brain)),
        run_opts={"device": "cpu"},
    )

    def run(steps: int) -> float:
        part = [next(following) for _ in range(steps)]
        began = time.perf_counter()
        brain.fit(range(1), part)
        return time.perf_counter() - began

    return run


def brain_network(brain: Any) -> Model:
    """The network that a Brain holds."""
    model: Model = brain.modules.network
    return model


def endless(batches: Sequence[Tensors]) -> Iterator[Tensors]:
    """The batches again and again."""
    while True:
        yield from batches


def efficiency() -> None:
    """In turns, so that a slow minute hits all; the best round of each is kept."""
    examples = speech()
    batches = held(examples, STEPS)
    with tempfile.TemporaryDirectory() as folder:
        loops = {
            "bare": bare(batches),
            "ours": ours(examples, Path(folder)),
            "speechbrain": speechbrain(batches),
        }
        for run in loops.values():
            run(5)
        taken: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(ROUNDS):
            for name, run in loops.items():
                taken[name].append(run(STEPS))
                print(f"{name}: {taken[name][-1]:.1f} s for {STEPS} steps", flush=True)
    best = {name: min(times) for name, times in taken.items()}
    command = f"{COMMAND} efficiency"
    record("speech", "training_efficiency", best["bare"] / best["ours"], "ratio", command)
    over = best["bare"] / best["speechbrain"]
    record("speech", "training_efficiency_speechbrain", over, "ratio", command)


# Workers.


def speed(workers: int, objects: InMemoryObjects) -> float:
    """Audio seconds a second of so many workers, which share the cores."""
    sets = [FeatureSet(role="new", archive=f"{ARCHIVE}/manifest.json")]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        summary = train(
            replace(CONFIG, workers=workers),
            sets=sets,
            base_bundle=None,
            output=home / "bundle",
            work=home / "work",
            launcher=TorchrunLauncher(objects, home / "cache"),
        )
    return summary.audio_seconds_per_second


def workers() -> None:
    """In turns, so that a slow minute hits both."""
    os.environ.pop("OMP_NUM_THREADS", None)  # the launcher shares the cores out
    objects = stored(speech())
    one, two = [], []
    for _ in range(ROUNDS):
        one.append(speed(1, objects))
        two.append(speed(2, objects))
        print(f"one worker {one[-1]:.0f}, two workers {two[-1]:.0f} audio s/s", flush=True)
    ratio = float(np.median(two) / np.median(one))
    record("speech", "two_workers_speed", ratio, "ratio", f"{COMMAND} workers")


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
    """Read a checkpoint, restore it and take a step; the process's own start counts too."""
    examples = speech()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(network(), examples, CONFIG)
        trainer.step()
        Checkpoints(Path(folder), "resumed").save(trainer, 0.0)
        started = time.time() - psutil.Process().create_time()
        began = time.perf_counter()
        checkpoint = Checkpoints(Path(folder), "resumed").newest()
        assert checkpoint is not None
        again = Trainer(network(), examples, CONFIG)
        restore(again, checkpoint)
        again.step()
        taken = started + time.perf_counter() - began
    record("speech", "resume_seconds", taken, "s", f"{COMMAND} resume")


FIGURES: Final = {
    "efficiency": efficiency,
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
