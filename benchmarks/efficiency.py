"""How fast our loop is beside a bare one: `python -m benchmarks.efficiency`, on an idle machine.

`training_efficiency` is the speed of the loop with all that it does (augmentation, curves, progress
bar, checkpoints) over a bare loop of the same network on batches held in memory. SpeechBrain's loop
on these same batches is measured beside it.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.results import record
from benchmarks.training import ALPHABET, CONFIG, ROUNDS, STEPS, network, speech
from hearloop.architecture import Architecture
from hearloop.model import Model
from hearloop.training.batches import BatchPlan, Example, assemble
from hearloop.training.checkpoints import Checkpoints
from hearloop.training.curves import Curves, progress_bar
from hearloop.training.loop import Trainer

COMMAND: Final = "python -m benchmarks.efficiency"
WARM_UP: Final = 5
"""Steps that are not timed."""

Tensors = tuple[Tensor, Tensor, Tensor, Tensor]


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
        part = DataLoader([next(following) for _ in range(steps)], batch_size=None)
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


def main() -> None:
    """In turns, so that a slow minute hits all."""
    examples = speech()
    batches = held(examples, WARM_UP + ROUNDS * STEPS)  # all loops take the same, in one order
    with tempfile.TemporaryDirectory() as folder:
        loops = {
            "bare": bare(batches),
            "ours": ours(examples, Path(folder)),
            "speechbrain": speechbrain(batches),
        }
        for run in loops.values():
            run(WARM_UP)
        taken: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(ROUNDS):
            for name, run in loops.items():
                taken[name].append(run(STEPS))
                print(f"{name}: {taken[name][-1]:.1f} s for {STEPS} steps", flush=True)
    total = {name: sum(times) for name, times in taken.items()}
    record("speech", "training_efficiency", total["bare"] / total["ours"], "ratio", COMMAND)
    over = total["bare"] / total["speechbrain"]
    record("speech", "training_efficiency_speechbrain", over, "ratio", COMMAND)


if __name__ == "__main__":
    main()
