import numpy as np
import pytest

from serving.recording import LONGEST_S, Recording


def second(value: float) -> np.ndarray:
    return np.full(16_000, value, np.float32)


def test_an_answered_utterance_is_taken_out() -> None:
    recording = Recording()
    for number in range(4):
        recording.add(second(number / 8), now=float(number))
    assert recording.held_s == 4.0
    taken = recording.take(1.0, 3.0)
    assert taken.shape == (32_000,)
    assert np.allclose(taken, np.repeat([1 / 8, 2 / 8], 16_000), atol=1e-4)
    assert recording.held_s == 1.0
    assert np.allclose(recording.take(3.0, 4.0), 3 / 8, atol=1e-4)
    assert recording.total_s == 4.0


def test_it_knows_when_each_sample_came() -> None:
    recording = Recording()
    for number in range(3):
        recording.add(second(0.0), now=10.0 + number)
    assert [recording.arrived(s) for s in (0.5, 1.0, 1.01, 2.9)] == [10.0, 10.0, 11.0, 12.0]


def test_what_nobody_answers_is_forgotten() -> None:
    recording = Recording()
    for number in range(100):
        recording.add(second(0.1), now=float(number))
    assert sum(len(part) for part in recording._parts) <= (LONGEST_S + 1) * 16_000
    assert len(recording._arrivals) <= LONGEST_S + 2
    assert len(recording.take(0.0, 100.0)) == 0
    assert recording.total_s == pytest.approx(100.0)
