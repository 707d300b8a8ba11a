"""Which weights a training ends with: the mean over its last moments, for each rate it tried.

Averaging the weights of several moments of one training is Polyak's (1992) and Izmailov's (arXiv
1803.05407) way to the middle of what the last steps jump about in.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from hearloop.recipe import TrainingConfig

__all__ = ["Attempts", "Weights", "moments"]

_AVERAGED_SHARE: Final = 0.2
"""Share of the steps, the last ones, over which the averaged moments are spread."""

Weights = dict[str, Tensor]


def moments(config: TrainingConfig) -> list[int]:
    """Steps of each attempt after which the weights enter the mean, the last one included."""
    count = config.averaged_checkpoints
    apart = max(1, round(_AVERAGED_SHARE * config.steps / count))
    return list(range(config.steps, 0, -apart))[:count][::-1]


class Attempts:
    """The weights with which each learning rate ended, and those that it all began with.

    Besides these it remembers nothing, so a checkpoint of `tensors` resumes it exactly.
    """

    def __init__(self, network: nn.Module, config: TrainingConfig) -> None:
        self._network = network
        self._moments = moments(config)
        self._beginning = _copy(network) if config.other_learning_rates else {}
        self._finished: list[Weights] = []
        self._mean: Weights = {}

    def after(self, step: int) -> None:
        """Take the weights into the mean if they belong there; steps of an attempt, from 1."""
        if step not in self._moments:
            return
        place = self._moments.index(step)
        for name, weight in self._network.state_dict().items():
            if place and weight.is_floating_point():
                self._mean[name].lerp_(weight, 1 / (place + 1))
            else:
                self._mean[name] = weight.detach().clone()

    def begin_next(self) -> None:
        """Keep what came out and give the network the weights of the beginning again."""
        self._finished.append(self._mean)
        self._mean = {}
        with torch.no_grad():
            self._network.load_state_dict(self._beginning)

    def ends(self) -> list[Weights]:
        """Weights of each attempt, all of which have ended."""
        return [*self._finished, self._mean]

    def tensors(self) -> Weights:
        """All state."""
        named = {f"mean.{name}": weight for name, weight in self._mean.items()}
        for number, weights in enumerate(self._finished):
            named |= {f"finished.{number}.{name}": weight for name, weight in weights.items()}
        return named

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `tensors` gave."""
        self._mean, finished = {}, dict[int, Weights]()
        device = next(self._network.parameters()).device
        for key, weight in tensors.items():
            kind, _, name = key.partition(".")
            if kind == "mean":
                self._mean[name] = weight.to(device)
            else:
                number, _, name = name.partition(".")
                finished.setdefault(int(number), {})[name] = weight.to(device)
        self._finished = [finished[number] for number in sorted(finished)]


def _copy(network: nn.Module) -> Weights:
    return {name: weight.detach().clone() for name, weight in network.state_dict().items()}
