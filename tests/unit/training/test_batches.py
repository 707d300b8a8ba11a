import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.architecture import Architecture
from hearloop.features import FLOOR
from hearloop.recipe import Augmentation
from hearloop.training.batches import BatchPlan, Example, assemble, collate, noise_examples

ARCHITECTURE = Architecture(vocabulary=4)
VARIED = Augmentation(rooms=0.5, noise=0.5, voices=0.5)


def examples(count: int) -> list[Example]:
    rng = np.random.default_rng(0)
    return [
        Example(
            id=str(number),
            features=rng.normal(-6, 2, (40 + 7 * number, 80)).astype(np.float16),
            ids=(1,) * (number + 1),
            text="a" * (number + 1),
        )
        for number in range(count)
    ]


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    st.lists(st.integers(1, 900), min_size=1, max_size=200),
    st.integers(100, 3000),
    st.integers(0, 5),
)
def test_each_epoch_takes_every_utterance_once(lengths: list[int], frames: int, seed: int) -> None:
    plan = BatchPlan(lengths, frames=frames, seed=seed)
    taken: list[int] = []
    step = 0
    while len(taken) < 2 * len(lengths):
        batch = plan.batch(step)
        assert sum(lengths[index] for index in batch) <= max(frames, lengths[batch[0]])
        taken += batch
        step += 1
    assert sorted(taken[: len(lengths)]) == list(range(len(lengths)))
    assert sorted(taken[len(lengths) :]) == list(range(len(lengths)))


def test_a_step_s_batch_does_not_depend_on_the_steps_before() -> None:
    lengths = list(range(50, 400, 3))
    forwards = BatchPlan(lengths, frames=1000, seed=4)
    walked = [forwards.batch(step) for step in range(60)]
    assert BatchPlan(lengths, frames=1000, seed=4).batch(59) == walked[59]
    assert [forwards.batch(step) for step in range(60)] == walked
    assert [BatchPlan(lengths, frames=1000, seed=5).batch(step) for step in range(60)] != walked


def test_utterances_of_like_length_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(100, 500, 1000).tolist()
    plan = BatchPlan(lengths, frames=2400, seed=0)
    batches = [[lengths[index] for index in plan.batch(step)] for step in range(50)]
    padding = 1 - sum(map(sum, batches)) / sum(max(batch) * len(batch) for batch in batches)
    assert padding < 0.1


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_share_out_one_and_the_same_batch(workers: int) -> None:
    many = examples(7)
    parts = [
        assemble(many, range(7), ARCHITECTURE, VARIED, seed=1, step=9, rank=rank, workers=workers)
        for rank in range(workers)
    ]
    whole = assemble(many, range(7), ARCHITECTURE, VARIED, seed=1, step=9, rank=0, workers=1)
    for place in range(7):
        part, row = parts[place % workers], place // workers
        length = int(part.outputs[row]) * 4 + 16
        assert part.outputs[row] == whole.outputs[place]
        torch.testing.assert_close(part.x[row, :length], whole.x[place, :length])


def test_an_utterance_varies_from_step_to_step() -> None:
    many = examples(1)
    one, other = (
        assemble(many, [0], ARCHITECTURE, VARIED, seed=1, step=step, rank=0, workers=1).x
        for step in (1, 2)
    )
    assert one.shape != other.shape or not torch.equal(one, other)


def test_pads_with_digital_silence_to_the_tail() -> None:
    matrices = [example.features.astype(np.float32) for example in examples(2)]
    batch = collate(matrices, [(1, 2), ()], ARCHITECTURE)
    assert batch.x.shape == (2, 72, 80)
    assert batch.outputs.tolist() == [12, 14]
    assert (batch.x[0, 40:] == FLOOR).all()
    assert (batch.targets.tolist(), batch.target_lengths.tolist()) == ([1, 2], [2, 0])


def test_noise_has_no_text_and_many_levels() -> None:
    noise = noise_examples(20, seed=0)
    assert all(one.ids == () and one.text == "" for one in noise)
    assert np.ptp([one.features.mean() for one in noise]) > 5
    np.testing.assert_array_equal(noise[3].features, noise_examples(20, seed=0)[3].features)
