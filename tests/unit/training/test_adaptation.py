import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.training.adaptation import average, choose, draw, report
from hearloop.training.request import Candidate


def candidate(share: float, new: float, old: float | None = None) -> Candidate:
    return Candidate(share=share, new_wer=new, old_wer=old)


def test_averages_weight_by_weight() -> None:
    base, new = {"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([4.0, 2.0])}
    assert average(base, new, 0.75)["w"].tolist() == [3.0, 2.0]
    assert average(base, new, 0.0)["w"].tolist() == base["w"].tolist()
    assert average(base, new, 1.0)["w"].tolist() == new["w"].tolist()


def test_learns_most_among_those_that_forget_little() -> None:
    before = candidate(0.0, 0.60, 0.040)
    offered = [candidate(0.5, 0.25, 0.041), candidate(0.75, 0.19, 0.044), candidate(1, 0.14, 0.061)]
    assert choose(offered, before, 0.0125).share == 0.75


def test_forgets_least_when_all_forget() -> None:
    before = candidate(0.0, 0.60, 0.04)
    assert (
        choose([candidate(0.75, 0.2, 0.07), candidate(1.0, 0.1, 0.09)], before, 0.0125).share
        == 0.75
    )


def test_without_old_speech_the_new_decides() -> None:
    assert choose([candidate(0.5, 0.3), candidate(1.0, 0.2)], None, 0.0125).share == 1.0
    assert (
        choose([candidate(0.5, 0.2), candidate(1.0, 0.2)], candidate(0.0, 0.6), 0.0125).share == 1.0
    )


@pytest.mark.parametrize("count", [0, 3, 10, 99])
def test_draws_as_many_as_there_are(count: int) -> None:
    ids = {str(number): number for number in range(10)}
    drawn = draw(ids, count, seed=0)
    assert len(drawn) == len(set(drawn)) == min(count, 10)


@settings(derandomize=True, deadline=None)
@given(st.sets(st.text(max_size=4), min_size=1), st.integers(0, 9))
def test_the_draw_does_not_depend_on_the_order(ids: set[str], seed: int) -> None:
    forwards = {name: name for name in sorted(ids)}
    backwards = {name: name for name in sorted(ids, reverse=True)}
    assert draw(forwards, 3, seed) == draw(backwards, 3, seed)


def test_reports_what_was_learnt_and_forgotten() -> None:
    before = Candidate(share=0.0, new_wer=0.6, old_wer=0.04)
    tried = [
        Candidate(share=share, new_wer=new, old_wer=old, learning_rate=rate)
        for share, new, old, rate in ((0.5, 0.2, 0.045, 1e-3), (1.0, 0.1, 0.06, 2e-3))
    ]
    text = report(tried, before, choose(tried, before, 0.0125))
    assert "|  | 0 | 60.00% | 4.00% | the base |" in text
    assert "| 0.001 | 0.5 | 20.00% | 4.50% | chosen |" in text
    assert "| 0.002 | 1 | 10.00% | 6.00% |  |" in text
    assert "New speech: the WER fell by 40.00%, from 60.00% to 20.00%." in text
    assert "Old speech: the WER rose by 0.50%, from 4.00% to 4.50%." in text


def test_reports_a_first_model_without_anything_to_compare() -> None:
    only = Candidate(share=1.0, new_wer=0.1, old_wer=None, learning_rate=1e-3)
    assert "New speech: 10.00%, with nothing to compare." in report([only], None, only)


def test_counts_are_not_averaged() -> None:
    mixed = average({"n": torch.tensor(4)}, {"n": torch.tensor(9)}, 0.5)
    assert mixed["n"].item() == 9
