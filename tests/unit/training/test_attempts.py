import pytest
import torch
from torch import nn

from hearloop.recipe import TrainingConfig
from hearloop.training.attempts import Attempts, moments

CONFIG = TrainingConfig(steps=100, averaged_checkpoints=4, other_learning_rates=(1e-3,))


def network(value: float) -> nn.Module:
    one = nn.BatchNorm1d(1)
    nn.init.constant_(one.weight, value)
    return one


@pytest.mark.parametrize(
    ("steps", "count", "expected"),
    [(100, 1, [100]), (100, 4, [85, 90, 95, 100]), (3, 9, [1, 2, 3]), (1, 2, [1])],
)
def test_the_moments_are_spread_over_the_last_fifth(
    steps: int, count: int, expected: list[int]
) -> None:
    assert moments(TrainingConfig(steps=steps, averaged_checkpoints=count)) == expected


def test_averages_the_moments_and_begins_again_for_the_next_rate() -> None:
    one = network(7.0)
    attempts = Attempts(one, CONFIG)
    assert isinstance(one.weight, torch.Tensor)
    assert isinstance(one.num_batches_tracked, torch.Tensor)
    for first in (0.0, 1000.0):
        for step in range(1, 101):
            nn.init.constant_(one.weight, first + step)
            one.num_batches_tracked.fill_(step)
            attempts.after(step)
        if not first:
            attempts.begin_next()
            assert one.weight.item() == 7.0
    ends = attempts.ends()
    assert [end["weight"].item() for end in ends] == pytest.approx([92.5, 1092.5])
    assert [end["num_batches_tracked"].item() for end in ends] == [100, 100]


def test_one_moment_is_the_last_bit_by_bit() -> None:
    one = network(1 / 3)
    attempts = Attempts(one, TrainingConfig(steps=1))
    attempts.after(1)
    assert all((one.state_dict()[name] == end).all() for name, end in attempts.ends()[0].items())
