from functools import cache
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop import beam
from hearloop.decoding import transcribe
from hearloop.errors import ConfigurationError, IntegrityError, InvalidTranscript
from hearloop.hotwords import Hotword, Hotwords
from hearloop.text import ALPHABET, alphabet
from hearloop.tokenizer import BLANK, PIECES, Tokenizer, train_pieces


@settings(deadline=None, derandomize=True)
@given(st.text(ALPHABET))
def test_decoding_undoes_encoding_and_never_uses_the_blank(text: str) -> None:
    tokenizer = Tokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert BLANK not in ids
    assert all(index < len(tokenizer) for index in ids)


def test_saved_and_loaded_it_numbers_the_same(tmp_path: Path) -> None:
    Tokenizer().save(tmp_path / "tokens.txt")
    assert "".join(Tokenizer.load(tmp_path / "tokens.txt").symbols) == ALPHABET
    assert (tmp_path / "tokens.txt").read_text().startswith("<blk> 0\na 1\n")


@pytest.mark.parametrize("lines", ["", "a 0\nb 1\n", "<blk> 0\na 2\n", "<blk> 0\nab 1\n", "x"])
def test_refuses_what_is_no_list_of_tokens(tmp_path: Path, lines: str) -> None:
    (tmp_path / "tokens.txt").write_text(lines)
    with pytest.raises(IntegrityError, match="export the model again"):
        Tokenizer.load(tmp_path / "tokens.txt")


def test_names_the_character_that_it_cannot_write() -> None:
    with pytest.raises(InvalidTranscript, match="'é'"):
        Tokenizer().encode("café")


SAID = ["premete il tasto due", "il numero che avete chiamato", "perché no", "non è attivo"] * 20


@cache
def pieces() -> Tokenizer:
    return train_pieces(SAID, "it", 80)


def posteriors(ids: list[int], tokenizer: Tokenizer) -> np.ndarray:
    """A path that writes `ids`, two frames each and a blank behind them."""
    path = [index for one in ids for index in (one, one, BLANK)]
    log_probs = np.full((len(path), len(tokenizer)), np.log(0.01 / len(tokenizer)), np.float32)
    log_probs[np.arange(len(path)), path] = np.log(0.99)
    return log_probs


WORDS = st.lists(
    st.text(alphabet("it").replace(" ", "").replace("'", ""), min_size=1, max_size=9),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(WORDS)
def test_pieces_of_words_are_heard_as_words_by_both_searches(words: list[str]) -> None:
    tokenizer, text = pieces(), " ".join(words)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert BLANK not in ids
    greedy = transcribe(posteriors(ids, tokenizer), tokenizer)
    assert [word.text for word in greedy.words] == words
    searched = beam.transcribe(posteriors(ids, tokenizer), tokenizer, Hotwords([], tokenizer))
    assert searched.words == greedy.words


def test_a_hotword_is_found_among_pieces_however_they_split_it() -> None:
    tokenizer = pieces()
    likely, asked = tokenizer.encode("premete"), tokenizer.encode("premeva")
    log_probs = posteriors(asked, tokenizer)
    log_probs[:] = np.log(1e-5)
    for frame, (one, other) in enumerate(zip_longest(likely, asked, fillvalue=BLANK)):
        log_probs[3 * frame : 3 * frame + 2, one] = np.log(0.6)
        log_probs[3 * frame : 3 * frame + 2, other] = np.log(0.3) if one != other else np.log(0.9)
        log_probs[3 * frame + 2, BLANK] = np.log(0.9)
    plain = beam.transcribe(log_probs, tokenizer, Hotwords([], tokenizer)).text
    expected = Hotwords([Hotword(phrase="premeva")], tokenizer)
    assert plain != "premeva"
    assert beam.transcribe(log_probs, tokenizer, expected).text == "premeva"


def test_pieces_are_saved_with_their_model_and_learnt_alike_twice(tmp_path: Path) -> None:
    pieces().save(tmp_path / "tokens.txt")
    loaded = Tokenizer.load(tmp_path / "tokens.txt", "it")
    assert loaded.symbols == pieces().symbols
    assert loaded.encode("premete") == pieces().encode("premete")
    assert train_pieces(SAID, "it", 80).pieces == pieces().pieces
    (tmp_path / PIECES).write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match="fetch the model again"):
        Tokenizer.load(tmp_path / "tokens.txt", "it")


def test_pieces_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="ask for another number"):
        train_pieces(SAID, "it", 10)
    with pytest.raises(InvalidTranscript, match="'Ж'"):
        pieces().encode("Ж")
