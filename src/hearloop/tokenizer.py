"""Characters, or pieces of words, as the recogniser's output units.

With an hour of speech, characters at 40 ms frames learn where subword units stay on the blank
plateau; sentencepiece's are for many hours. `tokens.txt` is in the form that icefall and
sherpa-onnx read: `symbol id` lines, the CTC blank first, a word boundary written as U+2581.
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from hearloop.errors import ConfigurationError, IntegrityError, InvalidTranscript
from hearloop.text import ALPHABET, alphabet

__all__ = ["BLANK", "PIECES", "Tokenizer", "train_pieces"]

BLANK: Final = 0
"""Id of the CTC blank; sentencepiece gives it to what it does not know."""
PIECES: Final = "tokens.model"
"""The sentencepiece model, beside `tokens.txt`."""
_BLANK_SYMBOL: Final = "<blk>"
_BOUNDARY: Final = "\u2581"


class Tokenizer:
    """Text to ids and back.

    >>> Tokenizer().encode("ab")
    [1, 2]
    """

    def __init__(
        self,
        symbols: Iterable[str] = ALPHABET,
        *,
        language: str = "en",
        pieces: bytes | None = None,
    ) -> None:
        """Number `symbols` from 1 on, in their order; 0 is the blank.

        language: the tag in which texts are normalised; pieces: the sentencepiece model that the
        symbols are from, each that begins a word with a space before it.
        """
        self.symbols = tuple(symbols)
        self.language = language
        self.pieces = pieces
        self._ids = {symbol: index for index, symbol in enumerate(self.symbols, start=1)}
        self._processor = _processor(pieces) if pieces else None

    def __len__(self) -> int:
        """Number of symbols, the blank included."""
        return len(self.symbols) + 1

    def encode(self, text: str) -> list[int]:
        """Ids of normalised text. Raises InvalidTranscript for a character without an id."""
        if self._processor is not None:
            ids: list[int] = self._processor.encode(text)
        else:
            ids = [self._ids.get(character, BLANK) for character in text]
        if BLANK in ids:
            known = set("".join(self.symbols))
            foreign = next(character for character in text if character not in known)
            raise InvalidTranscript(
                f"The text {text!r} has the character {foreign!r} that the model cannot write; "
                "normalise the text first."
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, none of which is the blank."""
        text = "".join(self.symbols[index - 1] for index in ids)
        return text if self._processor is None else text.removeprefix(" ")

    def save(self, path: Path) -> None:
        """Write `tokens.txt`, and the sentencepiece model beside it where there is one."""
        symbols = [_BLANK_SYMBOL, *(symbol.replace(" ", _BOUNDARY) for symbol in self.symbols)]
        lines = [f"{symbol} {index}\n" for index, symbol in enumerate(symbols)]
        path.write_text("".join(lines), encoding="utf-8")
        if self.pieces:
            path.with_name(PIECES).write_bytes(self.pieces)

    @classmethod
    def load(cls, path: Path, language: str = "en") -> "Tokenizer":
        """Read `tokens.txt` and what is beside it. Raises IntegrityError when it is not ours."""
        fields = [line.split(" ") for line in path.read_text(encoding="utf-8").splitlines()]
        symbols = [row[0] for row in fields]
        numbered = all(row[1:] == [str(index)] for index, row in enumerate(fields))
        pieces = path.with_name(PIECES)
        loaded = cls(
            (symbol.replace(_BOUNDARY, " ") for symbol in symbols[1:]),
            language=language,
            pieces=pieces.read_bytes() if pieces.exists() else None,
        )
        if not numbered or symbols[:1] != [_BLANK_SYMBOL] or not loaded._sound():
            raise IntegrityError(
                f"{path} is not a list of `symbol id` lines that begins with {_BLANK_SYMBOL} 0, "
                f"or not that of the {PIECES} beside it; export the model again."
            )
        return loaded

    def _sound(self) -> bool:
        """Whether the symbols are single characters, or those of the sentencepiece model."""
        if self._processor is None:
            return all(len(symbol) == 1 for symbol in self.symbols)
        return self.symbols == _symbols(self._processor)


def train_pieces(texts: Sequence[str], language: str, size: int) -> Tokenizer:
    """Learn about `size` pieces of words from normalised texts; equal texts give equal pieces.

    Every character of the language has a piece, whether it occurs in the texts or not. Raises
    ConfigurationError when `size` cannot hold these.
    """
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size,
            hard_vocab_limit=False,
            required_chars=alphabet(language).replace(" ", ""),
            character_coverage=1.0,
            normalization_rule_name="identity",
            split_by_unicode_script=False,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ConfigurationError(
            f"sentencepiece cannot make {size} pieces of {len(texts)} texts ({error}); ask for "
            "another number, or take characters."
        ) from error
    pieces = model.getvalue()
    return Tokenizer(_symbols(_processor(pieces)), language=language, pieces=pieces)


def _processor(pieces: bytes) -> Any:
    import sentencepiece

    try:
        return sentencepiece.SentencePieceProcessor(model_proto=pieces)
    except RuntimeError as error:
        raise IntegrityError(
            f"The sentencepiece model cannot be read ({error}); fetch the model again."
        ) from error


def _symbols(processor: Any) -> tuple[str, ...]:
    pieces = (processor.id_to_piece(index) for index in range(1, len(processor)))
    return tuple(piece.replace(_BOUNDARY, " ") for piece in pieces)
