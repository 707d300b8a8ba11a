import numpy as np
import pytest
import torch

from hearloop.architecture import Architecture
from hearloop.model import Network
from hearloop.recipe import TrainingConfig
from hearloop.training.batches import Example
from hearloop.training.loop import Trainer, learning_rate

CONFIG = TrainingConfig(steps=200, batch_seconds=4.0, peak_learning_rate=1e-2)


def trainer(config: TrainingConfig = CONFIG, *, loaders: int = 0) -> Trainer:
    """Two kinds of sound, two characters."""
    torch.manual_seed(0)
    architecture = Architecture(vocabulary=3, front_channels=8, hidden=16, layers=1)
    features = np.full((60, 80), -8.0, np.float16)
    features[20:40, :40] = 0.0
    sounds = {"a": features, "b": features[:, ::-1].copy()}
    examples = [
        Example(id=f"{letter}{number}", features=sounds[letter], ids=(number_of,), text=letter)
        for number in range(6)
        for number_of, letter in ((1, "a"), (2, "b"))
    ]
    network = Network(architecture)
    network.mean -= 6.0
    network.deviation *= 4.0
    return Trainer(network, examples, config, loaders=loaders)


def test_the_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    rates = [learning_rate(TrainingConfig(steps=100), step) for step in range(100)]
    assert rates[:4] == pytest.approx([0.0005, 0.001, 0.0015, 0.002])
    assert max(rates) == pytest.approx(0.002)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] < 1e-5


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_training_has_a_rate(steps: int) -> None:
    config = TrainingConfig(steps=steps)
    assert all(0 < learning_rate(config, step) <= 2e-3 for step in range(steps))


def test_learns_to_tell_two_sounds_apart() -> None:
    learner = trainer()
    steps = [learner.step() for _ in range(CONFIG.steps)]
    assert [step.number for step in steps] == list(range(1, CONFIG.steps + 1))
    assert steps[0].loss > 1.0
    assert np.mean([step.loss for step in steps[-10:]]) < 0.6  # a guess costs ln 2 = 0.69
    assert 2.0 < steps[0].audio_seconds <= 4.0


def test_the_same_seed_gives_the_same_weights() -> None:
    one, other = trainer(), trainer()
    for _ in range(3):
        assert one.step().loss == other.step().loss
    for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_wish_to_stop_is_passed_on() -> None:
    learner = trainer()
    assert not learner.step().stop
    assert learner.step(stop=True).stop


def test_other_processes_make_the_same_batches() -> None:
    """As they do beside a GPU; also after a resume, from the step where it goes on."""
    alone, helped = trainer(), trainer(loaders=1)
    losses = [alone.step().loss for _ in range(4)]
    assert [helped.step().loss for _ in range(2)] == losses[:2]
    resumed = trainer(loaders=1)
    resumed.network.load_state_dict(helped.network.state_dict())
    resumed.optimiser.load_state_dict(helped.optimiser.state_dict())
    resumed.steps_done = 2
    assert [resumed.step().loss for _ in range(2)] == losses[2:]
