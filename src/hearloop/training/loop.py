"""The training loop: steps of CTC by AdamW, alone or as one of several workers."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from hearloop.features import FRAME_SECONDS
from hearloop.model import Model
from hearloop.recipe import TrainingConfig
from hearloop.training.attempts import Attempts
from hearloop.training.batches import Batch, BatchPlan, Example, assemble, collate

__all__ = ["Step", "Trainer", "learning_rate"]

_WARM_UP: Final = 0.04
"""Share of the steps in which the learning rate rises."""
_WEIGHT_DECAY: Final = 0.01
_BETAS: Final = (0.9, 0.98)
_LARGEST_GRADIENT: Final = 5.0
"""Norm to which gradients are clipped: above what healthy steps show after the warm-up."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step did."""

    number: int
    """How many steps are done, this one included."""
    loss: float
    """Nats per character over the whole batch."""
    learning_rate: float
    audio_seconds: float
    """Audio in the batch, over all workers."""
    seconds: float
    stop: bool
    """Whether some worker was asked to stop."""


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Rate of a step counted from 0: a linear warm-up, then half a cosine down to nothing.

    The same again for each further peak.
    """
    attempt, step = divmod(step, config.steps)
    peak = config.learning_rates[attempt]
    warm_up = max(1, round(_WARM_UP * config.steps))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = (step - warm_up) / max(1, config.steps - warm_up)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def _device() -> torch.device:
    """This worker's GPU where there is one."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


class _Loss(nn.Module):
    """The network's loss as a module, for DistributedDataParallel to hook into."""

    def __init__(self, network: Model) -> None:
        super().__init__()
        self.network = network

    def forward(self, *batch: Tensor) -> Tensor:
        return self.network.loss(*batch)


class _Made(Dataset[Batch]):
    """Batches by step, for processes that make them while a GPU computes."""

    def __init__(self, make: Callable[[int], Batch]) -> None:
        self._make = make

    def __getitem__(self, step: int) -> Batch:
        return self._make(step)


class Trainer:
    """Network, optimiser and batch plan of one worker; all that a step needs."""

    def __init__(
        self,
        network: Model,
        examples: Sequence[Example],
        config: TrainingConfig,
        *,
        rank: int = 0,
        workers: int = 1,
        loaders: int | None = None,
    ) -> None:
        """`loaders`: processes that make batches; None has some beside a GPU, else there are none.

        They change nothing but the speed.
        """
        self.device = _device()
        if loaders is None:
            spare = len(os.sched_getaffinity(0)) // workers - 1
            loaders = max(1, spare) if self.device.type == "cuda" else 0
        self._loaders = loaders
        self.network = network.to(self.device).train()
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
            # Without a C compiler beside it a GPU trains all the same, only slower.
            torch._dynamo.config.suppress_errors = True
            network.compile_parts()
        auto = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        self._bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and auto)
        self.steps_done = 0
        self.attempts = Attempts(self.network, config)
        self._config = config
        self._examples = examples
        self._rank, self._workers = rank, workers
        lengths = [len(example.features) for example in examples]
        self._lengths = lengths
        frames = round(config.batch_seconds / FRAME_SECONDS)
        shards = [getattr(example.features, "shard", None) for example in examples]
        streamed = any(shard is not None for shard in shards)
        self._plan = BatchPlan(
            lengths, frames=frames, seed=config.seed, shards=shards if streamed else None
        )
        self._loss: nn.Module = _Loss(network)
        if workers > 1:
            self._loss = DistributedDataParallel(
                self._loss, find_unused_parameters=network.unused_at_times
            )
            self._order_exchanges()
        self.optimiser = torch.optim.AdamW(
            network.parameters(), betas=_BETAS, weight_decay=_WEIGHT_DECAY, fused=True
        )

    def step(self, *, stop: bool = False) -> Step:
        """Learn from the next batch. `stop`: whether this worker was asked to end."""
        began = time.monotonic()
        attempt, step = divmod(self.steps_done, self._config.steps)
        if attempt and not step:
            self.attempts.begin_next()
            self.optimiser.state.clear()
        indices = self._plan.batch(step)
        rate = learning_rate(self._config, self.steps_done)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = next(self._batches)
        characters = max(1, sum(len(self._examples[index].ids) for index in indices))
        self.network.begin_step(step)
        # What a step draws (dropout, chunks) depends on it alone: a resumed run draws the same.
        torch.manual_seed(hash((self._config.seed, self.steps_done, self._rank)))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            loss = self._loss(*batch.to(self.device)) / characters
        self.optimiser.zero_grad()
        # DDP averages over the workers; each holds only its part of the sum.
        (loss * self._workers).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
        self.optimiser.step()
        self.steps_done += 1
        self.attempts.after(step + 1)
        summed, stops = self._over_workers(float(loss.detach()), stop)
        return Step(
            number=self.steps_done,
            loss=summed,
            learning_rate=rate,
            audio_seconds=sum(self._lengths[index] for index in indices) * FRAME_SECONDS,
            seconds=time.monotonic() - began,
            stop=stops,
        )

    @cached_property
    def _batches(self) -> Iterator[Batch]:
        """The batches from this step on, which no other step asks for: each is made once."""
        steps = range(self.steps_done, self._config.total_steps)
        if not self._loaders:
            return map(self._batch, steps)
        return iter(DataLoader(_Made(self._batch), None, sampler=steps, num_workers=self._loaders))

    def _batch(self, step: int) -> Batch:
        """This worker's part of a step's batch; steps of all attempts, from 0."""
        step %= self._config.steps
        return assemble(
            self._examples,
            self._plan.batch(step),
            self.network.architecture,
            self._config.augmentation,
            seed=self._config.seed,
            step=step,
            rank=self._rank,
            workers=self._workers,
        )

    def _order_exchanges(self) -> None:
        """Let the workers settle in which order they exchange gradients, on a batch of nothing.

        They do so after the first step of a process, and the sum of three numbers has other bits
        in another order: after a resume it would be the first order's again.
        """
        nothing = collate([], [], self.network.architecture).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            loss = self._loss(*nothing)
        loss.backward()

    def agreed(self) -> bool:
        """Whether all workers have done as many steps."""
        if self._workers == 1:
            return True
        extremes = torch.tensor([self.steps_done, -self.steps_done], device=self.device)
        dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
        return int(extremes[0]) == -int(extremes[1])

    def _over_workers(self, loss: float, stop: bool) -> tuple[float, bool]:
        """Sum of the losses, and whether any worker was asked to stop: all end at one step."""
        if self._workers == 1:
            return loss, stop
        shared = torch.tensor([loss, float(stop)], dtype=torch.float64, device=self.device)
        dist.all_reduce(shared)
        return float(shared[0]), bool(shared[1] > 0)
