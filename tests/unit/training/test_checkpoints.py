import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.recipe import Augmentation
from hearloop.training.checkpoints import Checkpoints, restore
from tests.unit.training.test_loop import CONFIG, trainer


def test_a_restored_trainer_goes_on_bit_by_bit(tmp_path: Path) -> None:
    original = trainer()
    for _ in range(3):
        original.step()
    Checkpoints(tmp_path, "training").save(original, 12.5)
    expected = [original.step().loss for _ in range(3)]
    checkpoint = Checkpoints(tmp_path, "training").newest()
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.seconds) == (3, 12.5)
    resumed = trainer()
    restore(resumed, checkpoint)
    assert [resumed.step().loss for _ in range(3)] == expected
    for a, b in zip(original.network.parameters(), resumed.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


MANY = replace(
    CONFIG,
    steps=4,
    averaged_checkpoints=2,
    other_learning_rates=(1e-3,),
    augmentation=Augmentation(rooms=0.5, noise=0.5, voices=0.5),
)
"""Two rates of four steps: eight in all."""


def learn(
    folder: Path, every: int, end: int, losses: dict[int, float]
) -> Mapping[str, torch.Tensor]:
    """Resume, save after `every` steps, and stop dead after `end`: what is not saved is lost."""
    learner, checkpoints = trainer(MANY), Checkpoints(folder, "training")
    checkpoint = checkpoints.newest()
    if checkpoint is not None:
        restore(learner, checkpoint)
    while learner.steps_done < end:
        step = learner.step()
        assert losses.setdefault(step.number, step.loss) == step.loss
        if step.number % every == 0:
            checkpoints.save(learner, 0.0)
    return learner.attempts.tensors()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, torch.Tensor]:
    return learn(tmp_path_factory.mktemp("one"), 99, MANY.total_steps, {})


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, MANY.total_steps - 1), max_size=3), st.integers(1, 5))
def test_killed_at_any_steps_it_ends_with_the_same_bits(
    uninterrupted: Mapping[str, torch.Tensor], kills: list[int], every: int
) -> None:
    losses: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for end in (*sorted(kills), MANY.total_steps):
            found = learn(Path(folder), every, end, losses)
    assert sorted(losses) == list(range(1, MANY.total_steps + 1))
    assert found.keys() == uninterrupted.keys()
    for name, weight in uninterrupted.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=0)


def test_keeps_the_newest_two(tmp_path: Path) -> None:
    checkpoints, learner = Checkpoints(tmp_path, "training"), trainer()
    for _ in range(4):
        learner.step()
        checkpoints.save(learner, 0.0)
    assert [path.name[:8] for path in checkpoints.paths()] == ["00000004", "00000003"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    checkpoints, learner = Checkpoints(tmp_path, "training"), trainer()
    for _ in range(2):
        learner.step()
        newest = checkpoints.save(learner, 0.0)
    body = bytearray(newest.read_bytes())
    body[-1] ^= 1
    newest.write_bytes({"flip": bytes(body), "truncate": bytes(body[:99]), "empty": b""}[damage])
    found = checkpoints.newest()
    assert found is not None
    assert found.step == 1


def test_another_training_s_checkpoint_is_left_out(tmp_path: Path) -> None:
    learner = trainer()
    learner.step()
    Checkpoints(tmp_path, "one").save(learner, 0.0)
    assert Checkpoints(tmp_path, "other").newest() is None
    assert Checkpoints(tmp_path / "nowhere", "one").newest() is None


def test_what_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, learner = Checkpoints(tmp_path, "training"), trainer()
    learner.step()
    before = checkpoints.save(learner, 0.0)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    learner.step()
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(learner, 0.0)
    assert list(tmp_path.iterdir()) == [before]
