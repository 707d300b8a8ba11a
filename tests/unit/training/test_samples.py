from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from hearloop.architecture import Architecture, Shape, Wav2Vec2Architecture, sample_rows
from hearloop.features import Matrix
from hearloop.model import Model, build
from hearloop.tokenizer import Tokenizer
from hearloop.training.batches import Example
from hearloop.training.samples import Sample, align, listen, picture, usual
from tests.pretrained import SIZES

TOKENIZER = Tokenizer()
RNN = Architecture(vocabulary=len(TOKENIZER), front_channels=8, hidden=8, layers=1)
WAV2VEC2 = Wav2Vec2Architecture(
    vocabulary=len(TOKENIZER), source="none", encoder=SIZES, normalised=True
)
TEXTS = ("call me", "hello anna", "a text that is by far too long for a second", "")


def random(architecture: Shape) -> Model:
    torch.manual_seed(0)
    return build(architecture).eval()


def example(text: str, features: Matrix) -> Example:
    return Example(id=text, features=features, ids=tuple(TOKENIZER.encode(text)), text=text)


def heard(architecture: Shape) -> dict[str, Sample]:
    """Each text, in recordings of a second and more, as a random network hears it."""
    rng = np.random.default_rng(0)
    examples = []
    for number, text in enumerate(TEXTS):
        rows = rng.normal(0, 0.1, (100 + 10 * number, architecture.bins)).astype(np.float32)
        examples.append(example(text, rows))
    return {one.text: one for one in listen(random(architecture), examples, TOKENIZER)}


def drawn(sample: Sample) -> tuple[str, str, list[str]]:
    """Labels of both panels and the characters beside the rows."""
    figure = picture(sample, TOKENIZER.symbols)
    figure.draw_without_rendering()
    above, below = figure.axes
    return (
        above.get_ylabel(),
        below.get_ylabel(),
        [label.get_text() for label in below.get_yticklabels()],
    )


@pytest.mark.parametrize("architecture", [RNN, WAV2VEC2])
def test_the_reference_is_aligned_in_the_order_spoken(architecture: Shape) -> None:
    for text, sample in heard(architecture).items():
        if text not in TEXTS[:2]:
            assert sample.spans == ()
            continue
        assert len(sample.spans) == len(sample.ids) == len(text)
        assert sample.spans[0][0] >= 0
        assert all(start < end for start, end in sample.spans)
        assert all(one[1] <= other[0] for one, other in pairwise(sample.spans))
        assert sample.spans[-1][1] <= len(sample.probabilities)


def test_characters_are_aligned_where_they_are_heard() -> None:
    path = [0, 1, 1, 2, 0, 2, 0, 0]
    log_probs = np.log(np.full((8, 4), 0.02) + 0.94 * np.eye(4)[path]).astype(np.float32)
    assert align(log_probs, [1, 2, 2]) == ((1, 3), (3, 4), (5, 6))


def test_what_cannot_be_aligned() -> None:
    even = np.log(np.full((5, 4), 0.25, np.float32))
    assert len(align(even, [1, 1, 1])) == 3
    assert align(even, [1, 1, 1, 2]) == ()  # two blanks would have to be written as well
    assert align(even, []) == ()
    assert align(np.full_like(even, np.nan), [1]) == ()


def test_the_picture_shows_the_reference_and_when_it_was_said() -> None:
    samples = heard(RNN)
    rows = ["h", "e", "l", "l", "o", "\u2423", "a", "n", "n", "a"]
    assert drawn(samples["hello anna"]) == ("mel bin", "said", rows)
    for text in TEXTS[2:]:
        assert drawn(samples[text]) == ("mel bin", "no alignment", [])


def test_samples_are_drawn_as_samples() -> None:
    tone = np.sin(np.arange(16000) / 10).astype(np.float32)
    (sample,) = listen(random(WAV2VEC2), [example("hello", sample_rows(tone))], TOKENIZER)
    assert drawn(sample) == ("sample", "said", list("hello"))


def test_the_usual_utterance_is_of_median_length_and_has_an_alignment() -> None:
    short, middle, long, _ = heard(RNN).values()
    assert usual([long, short, middle]) is middle  # of the two with an alignment
    fits = replace(long, spans=((0, 1),))
    assert usual([fits, middle, short]) is middle
    assert usual([long]) is long
