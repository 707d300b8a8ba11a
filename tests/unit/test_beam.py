from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop import beam, decoding
from hearloop.beam import PrefixBeam
from hearloop.hotwords import Hotword, Hotwords
from hearloop.tokenizer import Tokenizer

TOKENIZER = Tokenizer("ab ")
NONE = Hotwords([], TOKENIZER)


def random_log_probs(frames: int, seed: int, sharpness: float = 2.0) -> decoding.LogProbs:
    logits = np.random.default_rng(seed).normal(0, sharpness, (frames, len(TOKENIZER)))
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return log_probs.astype(np.float32)


def search(log_probs: decoding.LogProbs, pieces: list[int], **options: float) -> PrefixBeam:
    found = PrefixBeam(TOKENIZER, NONE, **options)  # type: ignore[arg-type]
    for piece in np.split(log_probs, np.cumsum(pieces)):
        path = piece.argmax(axis=1).tolist()
        found.extend(piece, path, decoding.certainty(piece).tolist())
    return found


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(1, 5), st.integers(0, 999))
def test_a_wide_beam_finds_the_text_that_is_likeliest_over_all_paths(
    frames: int, seed: int
) -> None:
    log_probs = random_log_probs(frames, seed)
    texts = [ids for length in range(frames + 1) for ids in product((1, 2, 3), repeat=length)]
    best = max(texts, key=lambda ids: decoding.log_likelihood(log_probs, ids))
    words = search(log_probs, [], width=10_000, unlikely=-99.0).take()
    assert [word.text for word in words] == TOKENIZER.decode(best).split()


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.lists(st.integers(0, 9), max_size=6), st.integers(0, 99))
def test_the_words_do_not_depend_on_how_the_frames_arrive(pieces: list[int], seed: int) -> None:
    log_probs = random_log_probs(sum(pieces) + 3, seed)
    assert search(log_probs, pieces).take() == search(log_probs, []).take()


def test_where_the_network_is_certain_it_is_the_best_path_with_its_times() -> None:
    log_probs = random_log_probs(60, 5, sharpness=30.0)
    expected = decoding.transcribe(log_probs, TOKENIZER)
    found = beam.transcribe(log_probs, TOKENIZER, NONE)
    assert len(expected.words) > 3
    for word, other in zip(expected.words, found.words, strict=True):
        assert (word.text, word.start_s, word.end_s) == (other.text, other.start_s, other.end_s)
        assert word.confidence == pytest.approx(other.confidence, abs=1e-6)


def test_a_hotword_is_written_where_it_is_almost_as_likely() -> None:
    probabilities = np.full((3, 4), 0.01)
    probabilities[[0, 1, 2], [1, 0, 1]] = 0.57  # a_a, with b nearly as likely at the end
    probabilities[2, 2] = 0.40
    log_probs = np.log(probabilities).astype(np.float32)
    assert beam.transcribe(log_probs, TOKENIZER, NONE).text == "aa"
    hotwords = Hotwords([Hotword(phrase="ab", boost=0.5)], TOKENIZER)
    assert beam.transcribe(log_probs, TOKENIZER, hotwords).text == "ab"
    unlikely = Hotwords([Hotword(phrase="bb", boost=0.5)], TOKENIZER)
    assert beam.transcribe(log_probs, TOKENIZER, unlikely).text == "aa"


def test_what_is_heard_clearly_does_not_pay_for_a_character_that_was_not_said() -> None:
    """Of a hotword aba, where abb was said."""
    clear, other = 0.97, 6e-6  # 12 nats apart
    probabilities = np.full((4, 4), other)
    for frame, index in enumerate((1, 2, 0, 2)):
        probabilities[frame, index] = clear
    for unsaid, text in ((other, "abb"), (0.05, "aba")):
        probabilities[3, 1] = unsaid
        hotwords = Hotwords([Hotword(phrase="aba", boost=4.0)], TOKENIZER)
        log_probs = np.log(probabilities).astype(np.float32)
        assert beam.transcribe(log_probs, TOKENIZER, hotwords).text == text


def test_counts_the_words_that_it_takes_back() -> None:
    found = PrefixBeam(TOKENIZER, NONE)
    for probabilities in ([0.3, 0.36, 0.33, 0.01], [0.01, 0.01, 0.97, 0.01]):
        row = np.log(np.array([probabilities], np.float32))
        found.extend(row, row.argmax(axis=1).tolist(), [0.5])
    assert (found.text, found.revised) in {("ab", 0), ("b", 1)}
    sure = np.log(np.array([[0.01, 0.01, 0.01, 0.97]], np.float32))
    found.extend(sure, [3], [0.9])
    assert not found.within_word


def test_memory_and_work_do_not_grow_with_the_utterance() -> None:
    log_probs = random_log_probs(40, 3, sharpness=8.0)
    found = search(log_probs, [])
    for _ in range(50):
        path = log_probs.argmax(axis=1).tolist()
        found.extend(log_probs, path, [1.0] * len(path))
    assert len(found.words) > 100
    assert len(found._settled) + len(found._chain(found._beam[0])) < 400
