"""One spelling for what was said: references, corrections and hypotheses all pass through here.

>>> normalise("Call me at 10:05, it's the 3rd.")
"call me at ten zero five it's the third"
"""

import re
import unicodedata

from num2words import num2words

from hearloop.errors import InvalidTranscript

__all__ = ["ALPHABET", "normalise"]

ALPHABET = "abcdefghijklmnopqrstuvwxyz' "
"""Every character of a normalised transcript."""

_LONGEST_NUMBER = 9
"""Digits of the longest number read as a quantity; longer ones are read digit by digit."""

_SYMBOLS = {"&": " and ", "%": " percent ", "+": " plus ", "@": " at ", "=": " equals "}
_CURRENCIES = {"$": ("dollar", "dollars"), "£": ("pound", "pounds"), "€": ("euro", "euros")}

_APOSTROPHES = re.compile("[\u2018\u2019\u02bc\u0060\u00b4]")
_MARKUP = re.compile(r"[\[\]<>{}]")
_AMOUNT = re.compile(r"([$£€])\s?(\d+(?:,\d{3})*)(?:\.(\d\d))?(?![\d.]*\d)")
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+)(?![\d,])")
_ORDINAL = re.compile(r"(?<!\d)([1-9]\d{0,8})(?:st|nd|rd|th)\b")
_DECIMAL = re.compile(r"(\d+)\.(\d+)")
_DIGITS = re.compile(r"\d+")
_STRAY_APOSTROPHE = re.compile(r"(?<![a-z])'|'(?![a-z])")


def normalise(text: str, language: str = "en") -> str:
    """Lower case, numbers spelled out, no punctuation but the apostrophe inside a word.

    Applying it twice changes nothing. Raises InvalidTranscript when nothing is left, for a
    language other than English, for marks in brackets such as `[noise]`, which are not speech,
    and for characters that are outside ALPHABET once accents are taken off.
    """
    if language.partition("-")[0] != "en":
        raise InvalidTranscript(
            f"The language is {language!r}; only English transcripts can be normalised."
        )
    plain = _without_accents(_APOSTROPHES.sub("'", text)).lower()
    mark = _MARKUP.search(plain)
    if mark:
        raise InvalidTranscript(
            f"The transcript {_shown(text)} holds {mark[0]!r}: marks in brackets are not words; "
            "give only what was said."
        )
    for symbol, words in _SYMBOLS.items():
        plain = plain.replace(symbol, words)
    words = _without_punctuation(_spell_numbers(plain))
    said = " ".join(_STRAY_APOSTROPHE.sub(" ", words).split())
    if not said:
        raise InvalidTranscript(f"The transcript {_shown(text)} holds no words.")
    foreign = sorted(set(said) - set(ALPHABET))
    if foreign:
        raise InvalidTranscript(
            f"The transcript {_shown(text)} holds {foreign[0]!r} "
            f"({unicodedata.name(foreign[0], 'unnamed')}); spell it in English letters."
        )
    return said


def _without_accents(text: str) -> str:
    """Compatibility forms decomposed, and combining marks dropped: `café` is said as `cafe`."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(one for one in decomposed if not unicodedata.combining(one))


def _without_punctuation(text: str) -> str:
    return "".join(
        " " if (one != "'" and unicodedata.category(one)[0] in "PZ") or one.isspace() else one
        for one in text
    )


def _spell_numbers(text: str) -> str:
    """Numbers become words; the later patterns see what the earlier ones left."""
    text = _AMOUNT.sub(_amount, text)
    text = _THOUSANDS.sub(lambda match: match[1].replace(",", ""), text)
    text = _ORDINAL.sub(lambda match: f" {num2words(int(match[1]), to='ordinal')} ", text)
    text = _DECIMAL.sub(lambda match: f" {_number(match[1])} point {_one_by_one(match[2])} ", text)
    return _DIGITS.sub(lambda match: f" {_number(match[0])} ", text)


def _amount(match: re.Match[str]) -> str:
    symbol, whole, cents = match[1], match[2].replace(",", ""), match[3]
    singular, plural = _CURRENCIES[symbol]
    words = f" {_number(whole)} {singular if whole == '1' else plural} "
    return words + (f"{_number(cents)} " if cents and cents != "00" else "")


def _number(digits: str) -> str:
    """A quantity, or digit by digit when it is a code: a leading zero, or too long."""
    if len(digits) > _LONGEST_NUMBER or (len(digits) > 1 and digits[0] == "0"):
        return _one_by_one(digits)
    return str(num2words(int(digits)))


def _one_by_one(digits: str) -> str:
    return " ".join(str(num2words(int(digit))) for digit in digits)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
