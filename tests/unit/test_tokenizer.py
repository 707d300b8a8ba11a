from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.errors import IntegrityError, InvalidTranscript
from hearloop.text import ALPHABET
from hearloop.tokenizer import BLANK, Tokenizer


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
    assert Tokenizer.load(tmp_path / "tokens.txt").characters == ALPHABET
    assert (tmp_path / "tokens.txt").read_text().startswith("<blk> 0\na 1\n")


@pytest.mark.parametrize("lines", ["", "a 0\nb 1\n", "<blk> 0\na 2\n", "<blk> 0\nab 1\n", "x"])
def test_refuses_what_is_no_list_of_tokens(tmp_path: Path, lines: str) -> None:
    (tmp_path / "tokens.txt").write_text(lines)
    with pytest.raises(IntegrityError, match="export the model again"):
        Tokenizer.load(tmp_path / "tokens.txt")


def test_names_the_character_that_it_cannot_write() -> None:
    with pytest.raises(InvalidTranscript, match="'é'"):
        Tokenizer().encode("café")
