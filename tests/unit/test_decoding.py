from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop import decoding
from hearloop.tokenizer import BLANK, Tokenizer

TOKENIZER = Tokenizer("ab ")


def path_of(symbols: str, certainty: float = 0.97) -> decoding.LogProbs:
    """Log-probabilities whose best path is `symbols`, a frame each; `_` is the blank."""
    probabilities = np.full((len(symbols), len(TOKENIZER)), (1 - certainty) / 3, np.float32)
    for frame, symbol in enumerate(symbols):
        index = BLANK if symbol == "_" else TOKENIZER.encode(symbol)[0]
        probabilities[frame, index] = certainty
    return np.log(probabilities)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("aab_b", "abb"),
        ("____", ""),
        ("a b", "a b"),
        ("  a  _ b ", "a b"),
        ("   ", ""),
        ("_a_a_", "aa"),
    ],
)
def test_collapses_the_best_path(path: str, text: str) -> None:
    transcript = decoding.transcribe(path_of(path), TOKENIZER)
    assert transcript.text == text
    assert " ".join(word.text for word in transcript.words) == text


def test_words_have_the_times_of_their_frames() -> None:
    first, second = decoding.transcribe(path_of("__aab_ bb_"), TOKENIZER).words
    assert (first.start_s, first.end_s) == (0.08, 0.2)
    assert (second.start_s, second.end_s) == (0.28, 0.36)


def test_a_word_is_as_certain_as_its_least_certain_character() -> None:
    log_probs = path_of("ab a")
    log_probs[1] = path_of("b", certainty=0.5)[0]
    unsure, sure = decoding.transcribe(log_probs, TOKENIZER).words
    assert unsure.confidence < 0.2 < 0.8 < sure.confidence


def test_silence_has_no_words_and_no_confidence() -> None:
    transcript = decoding.transcribe(path_of("___"), TOKENIZER)
    assert transcript == decoding.Transcript(text="", words=(), confidence=0.0)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 3), max_size=5), st.integers(1, 9), st.integers(0, 99))
def test_log_likelihood_is_torch_s_ctc_loss(ids: list[int], frames: int, seed: int) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (frames, 4)))
    log_probs = logits.float().log_softmax(-1)
    expected = -torch.nn.functional.ctc_loss(
        log_probs[:, None], torch.tensor([ids]), (frames,), (len(ids),), reduction="sum"
    )
    assert decoding.log_likelihood(log_probs.numpy(), ids) == pytest.approx(
        float(expected), abs=1e-3
    )


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.integers(1, 3), max_size=6), min_size=1, max_size=5),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_texts_scored_together_score_as_they_do_alone(
    texts: list[list[int]], frames: int, seed: int
) -> None:
    log_probs = np.random.default_rng(seed).normal(-3, 2, (frames, 4)).astype(np.float32)
    alone = [decoding.log_likelihood(log_probs, ids) for ids in texts]
    assert decoding.log_likelihoods(log_probs, texts) == pytest.approx(alone, abs=1e-9)


def test_likelihoods_of_all_texts_sum_to_one() -> None:
    log_probs = path_of("a_b")
    texts = [ids for length in range(4) for ids in product((1, 2, 3), repeat=length)]
    total = sum(np.exp(decoding.log_likelihood(log_probs, ids)) for ids in texts)
    assert total == pytest.approx(1.0, abs=1e-4)


def test_what_was_said_is_plausible_and_what_was_not_is_not() -> None:
    log_probs = path_of("aab_b__a")
    said = decoding.plausibility(log_probs, TOKENIZER.encode("abba"))
    other = decoding.plausibility(log_probs, TOKENIZER.encode("ba a"))
    assert -0.5 < said <= 0.2
    assert other < -2.0
    too_long = decoding.plausibility(log_probs, TOKENIZER.encode("abababababab"))
    assert too_long == decoding.IMPOSSIBLE_NATS


def test_an_empty_text_has_no_plausibility() -> None:
    with pytest.raises(ValueError, match="empty text"):
        decoding.plausibility(path_of("a"), [])
