"""How fast a Conformer of 110 million weights trains on a GPU: `python -m benchmarks.gpu`.

The training's own loop (augmentation, bfloat16, compiled blocks) on random speech of 10 to 18 s
held in memory, after steps that warm up the compiler. A profile of some more steps, printed and
kept in results/gpu_profile.txt, says where the rest goes: kernels by their time, how long the GPU
waited, and what a batch costs on the CPU. Without a GPU it says so and measures nothing.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.results import HOME, record
from hearloop.architecture import sized
from hearloop.families import ConformerCtc
from hearloop.features import FRAME_SECONDS, MEL_BINS
from hearloop.model import build
from hearloop.recipe import TrainingConfig
from hearloop.training.batches import Example, assemble
from hearloop.training.loop import Trainer

COMMAND: Final = "python -m benchmarks.gpu"
FAMILY: Final = ConformerCtc(hidden=512, layers=18, heads=8)
VOCABULARY: Final = 500
"""Pieces of words: with hundreds of hours there is text enough for them."""
PIECES_A_SECOND: Final = 4
SECONDS: Final = (10.0, 18.0)
"""As LibriSpeech's."""
UTTERANCES: Final = 2_000
CONFIG: Final = TrainingConfig(steps=10_000, batch_seconds=1_600.0)
WARM_UP: Final = 20
STEPS: Final = 60
PROFILED: Final = 5


def speech(count: int, seconds: tuple[float, float]) -> list[Example]:
    """Random features and texts of the lengths of speech."""
    rng = np.random.default_rng(0)
    examples = []
    for number in range(count):
        length = rng.uniform(*seconds)
        ids = rng.integers(1, VOCABULARY, round(length * PIECES_A_SECOND)).tolist()
        rows = rng.normal(-6.0, 4.0, (round(length / FRAME_SECONDS), MEL_BINS)).astype(np.float16)
        examples.append(Example(id=str(number), features=rows, ids=tuple(ids), text=""))
    return examples


def speed(trainer: Trainer, steps: int) -> float:
    """Audio seconds a second over so many steps; each ends when its loss is known."""
    began = time.perf_counter()
    heard = sum(trainer.step().audio_seconds for _ in range(steps))
    return heard / (time.perf_counter() - began)


def profiled(trainer: Trainer, examples: Sequence[Example], config: TrainingConfig) -> str:
    """Where the time of a few steps goes."""
    kinds = [ProfilerActivity.CPU]
    if trainer.device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
    with profile(activities=kinds) as found:
        began = time.perf_counter()
        heard = sum(trainer.step().audio_seconds for _ in range(PROFILED))
        took = time.perf_counter() - began
    events = found.key_averages()
    busy = sum(one.self_device_time_total for one in events) / 1e6
    began = time.perf_counter()
    some = list(range(min(len(examples), 100)))
    options = {"seed": 0, "step": 0, "rank": 0, "workers": 1}
    assemble(examples, some, trainer.network.architecture, config.augmentation, **options)
    prepared = sum(len(examples[one].features) for one in some) * FRAME_SECONDS
    return (
        f"{heard / took:.0f} audio seconds a second while profiled\n"
        f"the GPU computed {busy / took:.0%} of the time\n"
        f"one core prepares {prepared / (time.perf_counter() - began):.0f} audio seconds a second\n"
        + events.table(sort_by="self_device_time_total", row_limit=25)
    )


def measure(
    family: ConformerCtc, config: TrainingConfig, examples: Sequence[Example], *, steps: int
) -> tuple[float, str]:
    """Audio seconds a second, and the profile."""
    torch.manual_seed(0)
    network = build(sized(family, vocabulary=VOCABULARY))
    trainer = Trainer(network, examples, config)
    speed(trainer, min(WARM_UP, steps))
    return speed(trainer, steps), profiled(trainer, examples, config)


def main() -> None:
    """Measure, or say that there is nothing to measure on."""
    if not torch.cuda.is_available():
        print("gpu_training_speed: not measured, this machine has no GPU")
        return
    found, where = measure(
        FAMILY, replace(CONFIG, precision="bfloat16"), speech(UTTERANCES, SECONDS), steps=STEPS
    )
    print(where)
    (HOME / "gpu_profile.txt").write_text(f"{torch.cuda.get_device_name()}\n{where}")
    record("speech", "gpu_training_speed", found, "audio seconds/s", COMMAND)


if __name__ == "__main__":
    main()
