"""Characters as the recogniser's output units.

With an hour of speech, characters at 40 ms frames learn where subword units stay on the blank
plateau. `tokens.txt` is in the form that icefall and sherpa-onnx read: `symbol id` lines, the
CTC blank first, a word boundary written as U+2581.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hearloop.errors import IntegrityError, InvalidTranscript
from hearloop.text import ALPHABET

__all__ = ["BLANK", "Tokenizer"]

BLANK: Final = 0
"""Id of the CTC blank."""
_BLANK_SYMBOL: Final = "<blk>"
_SPACE_SYMBOL: Final = "\u2581"


class Tokenizer:
    """Text to ids and back.

    >>> Tokenizer().encode("ab")
    [1, 2]
    """

    def __init__(self, characters: str = ALPHABET) -> None:
        """Number `characters` from 1 on, in their order; 0 is the blank."""
        self.characters = characters
        self._ids = {character: index for index, character in enumerate(characters, start=1)}

    def __len__(self) -> int:
        """Number of symbols, the blank included."""
        return len(self.characters) + 1

    def encode(self, text: str) -> list[int]:
        """Ids of normalised text. Raises InvalidTranscript for a character without an id."""
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            raise InvalidTranscript(
                f"The text {text!r} has the character {error.args[0]!r} that the model cannot "
                "write; normalise the text first."
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, none of which is the blank."""
        return "".join(self.characters[index - 1] for index in ids)

    def save(self, path: Path) -> None:
        """Write `tokens.txt`."""
        symbols = [_BLANK_SYMBOL, *(_SPACE_SYMBOL if c == " " else c for c in self.characters)]
        lines = [f"{symbol} {index}\n" for index, symbol in enumerate(symbols)]
        path.write_text("".join(lines), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read `tokens.txt`. Raises IntegrityError when it is not one of ours."""
        fields = [line.split(" ") for line in path.read_text(encoding="utf-8").splitlines()]
        symbols = [row[0] for row in fields]
        numbered = all(row[1:] == [str(index)] for index, row in enumerate(fields))
        single = all(len(symbol) == 1 for symbol in symbols[1:])
        if not numbered or not single or symbols[:1] != [_BLANK_SYMBOL]:
            raise IntegrityError(
                f"{path} is not a list of `symbol id` lines that begins with {_BLANK_SYMBOL} 0; "
                "export the model again."
            )
        return cls("".join(" " if s == _SPACE_SYMBOL else s for s in symbols[1:]))
