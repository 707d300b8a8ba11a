"""The training loop: steps of CTC by AdamW, alone or as one of several workers."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import ctc_loss
from torch.nn.parallel import DistributedDataParallel

from hearloop.features import FRAME_SECONDS
from hearloop.model import Network
from hearloop.recipe import TrainingConfig
from hearloop.tokenizer import BLANK
from hearloop.training.batches import Batch, BatchPlan, Example, assemble

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
    """Rate of a step counted from 0: a linear warm-up, then half a cosine down to nothing."""
    warm_up = max(1, round(_WARM_UP * config.steps))
    if step < warm_up:
        return config.peak_learning_rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, config.steps - warm_up)
    return config.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    """Network, optimiser and batch plan of one worker; all that a step needs."""

    def __init__(
        self,
        network: Network,
        examples: Sequence[Example],
        config: TrainingConfig,
        *,
        rank: int = 0,
        workers: int = 1,
    ) -> None:
        self.network = network.train()
        self.steps_done = 0
        self._config = config
        self._examples = examples
        self._rank, self._workers = rank, workers
        lengths = [len(example.features) for example in examples]
        self._lengths = lengths
        frames = round(config.batch_seconds / FRAME_SECONDS)
        self._plan = BatchPlan(lengths, frames=frames, seed=config.seed)
        self._forward = DistributedDataParallel(network) if workers > 1 else network
        self.optimiser = torch.optim.AdamW(
            network.parameters(), betas=_BETAS, weight_decay=_WEIGHT_DECAY, fused=True
        )

    def step(self, *, stop: bool = False) -> Step:
        """Learn from the next batch. `stop`: whether this worker was asked to end."""
        began = time.monotonic()
        indices = self._plan.batch(self.steps_done)
        rate = learning_rate(self._config, self.steps_done)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = assemble(
            self._examples,
            indices,
            self.network.architecture,
            self._config.augmentation,
            seed=self._config.seed,
            step=self.steps_done,
            rank=self._rank,
            workers=self._workers,
        )
        characters = max(1, sum(len(self._examples[index].ids) for index in indices))
        loss = self._loss(batch) / characters
        self.optimiser.zero_grad()
        # DDP averages over the workers; each holds only its part of the sum.
        (loss * self._workers).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
        self.optimiser.step()
        self.steps_done += 1
        summed, stops = self._over_workers(float(loss.detach()), stop)
        return Step(
            number=self.steps_done,
            loss=summed,
            learning_rate=rate,
            audio_seconds=sum(self._lengths[index] for index in indices) * FRAME_SECONDS,
            seconds=time.monotonic() - began,
            stop=stops,
        )

    def agreed(self) -> bool:
        """Whether all workers have done as many steps."""
        if self._workers == 1:
            return True
        extremes = torch.tensor([self.steps_done, -self.steps_done])
        dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
        return int(extremes[0]) == -int(extremes[1])

    def _loss(self, batch: Batch) -> Tensor:
        """Sum of the CTC losses of a batch, in nats."""
        log_probs, _ = self._forward(batch.x, self.network.initial_states(len(batch.x)))
        # At the first outputs nothing has been heard yet. If CTC may write there, it learns to
        # guess the first word by its frequency, and never learns to hear it.
        deaf = self.network.architecture.lookahead
        return ctc_loss(
            log_probs[:, deaf:].transpose(0, 1),
            batch.targets,
            batch.outputs,
            batch.target_lengths,
            blank=BLANK,
            reduction="sum",
            zero_infinity=True,  # a stretched utterance may have fewer frames than characters
        )

    def _over_workers(self, loss: float, stop: bool) -> tuple[float, bool]:
        """Sum of the losses, and whether any worker was asked to stop: all end at one step."""
        if self._workers == 1:
            return loss, stop
        shared = torch.tensor([loss, float(stop)], dtype=torch.float64)
        dist.all_reduce(shared)
        return float(shared[0]), bool(shared[1] > 0)
