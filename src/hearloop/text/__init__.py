"""One spelling for what was said: references, corrections and hypotheses all pass through here.

>>> normalise("Call me at 10:05, it's the 3rd.")
"call me at ten zero five it's the third"
>>> normalise("Premete 2, costa 3,50 €", "it")
'premete due costa tre euro cinquanta centesimi'
"""

import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache

from hearloop.errors import InvalidTranscript
from hearloop.text.languages import (
    CURRENCIES,
    PARTS,
    Language,
    currency_leads,
    language_of,
    separators,
    unit_name,
    units,
)

__all__ = ["ALPHABET", "Language", "alphabet", "language_of", "normalise"]

ALPHABET = language_of("en").alphabet
"""Every character of a normalised English transcript."""

_LONGEST_NUMBER = 9
"""Digits of the longest number read as a quantity; longer ones are read digit by digit."""

_APOSTROPHES = re.compile("[\u2018\u2019\u02bc\u0060\u00b4]")
_MARKUP = re.compile(r"[\[\]<>{}]")
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"\w+")
_STRAY_APOSTROPHE = re.compile(r"(?<![^\W\d_])'|'(?![^\W\d_])")
_NARROW = "\u00a0\u202f"
"""Spaces that separate thousands, which a common space does not: it stands between two numbers."""
_KEPT = f"ºª№{PARTS}{_NARROW}"
"""What compatibility forms would turn into letters, digits and common spaces too early."""

_Rule = tuple["re.Pattern[str]", Callable[["re.Match[str]"], str]]


def alphabet(language: str) -> str:
    """Every character of a normalised transcript. Raises InvalidTranscript for one unknown."""
    return language_of(language).alphabet


def normalise(text: str, language: str = "en") -> str:
    """Lower case, numbers spelled out, no punctuation but the apostrophe inside a word.

    language: a tag such as `en`, `it` or `es-MX`. Applying it twice changes nothing. Raises
    InvalidTranscript when nothing is left, for a language that is not among those of
    `hearloop.text.languages`, for marks in brackets such as `[noise]`, which are not speech, and
    for characters that are outside the language's alphabet once foreign accents are taken off.
    """
    spoken = language_of(language)
    plain = text
    for cased, words in spoken.cased.items():
        plain = re.sub(cased, words, plain)
    plain = _folded(plain, spoken.alphabet + _KEPT, spoken)
    mark = _MARKUP.search(plain)
    if mark:
        raise InvalidTranscript(
            f"The transcript {_shown(text)} holds {mark[0]!r}: marks in brackets are not words; "
            "give only what was said."
        )
    for pattern, replacement in _rules(language):
        plain = pattern.sub(replacement, plain)
    bare = _without_punctuation(_folded(plain, spoken.alphabet, spoken))
    said = " ".join(_STRAY_APOSTROPHE.sub(" ", bare).split())
    # Last, where every word stands alone: `5dr` would only turn into `five doctor` the second time.
    said = _WORD.sub(lambda word: spoken.titles.get(word[0], word[0]), said)
    if not said:
        raise InvalidTranscript(f"The transcript {_shown(text)} holds no words.")
    foreign = sorted(set(said) - set(spoken.alphabet))
    if foreign:
        raise InvalidTranscript(
            f"The transcript {_shown(text)} holds {foreign[0]!r} "
            f"({unicodedata.name(foreign[0], 'unnamed')}), which transcripts in {spoken.code!r} "
            "do not; spell it in the letters of that language."
        )
    return said


def _folded(text: str, kept: str, language: Language) -> str:
    """Lower case and composed; of characters that are not `kept`, the plain form.

    `café` stays as it is in French and is `cafe` in English.
    """
    composed = unicodedata.normalize("NFC", _APOSTROPHES.sub("'", text)).lower()
    folded = "".join(one if one in kept else _bare(one, language) for one in composed)
    return folded.lower()


def _bare(character: str, language: Language) -> str:
    """The compatibility form of a character without combining marks."""
    if character in language.letters:
        return language.letters[character]
    decomposed = unicodedata.normalize("NFKD", character)
    return "".join(one for one in decomposed if not unicodedata.combining(one))


def _without_punctuation(text: str) -> str:
    return "".join(
        " " if (one != "'" and unicodedata.category(one)[0] in "PZ") or one.isspace() else one
        for one in text
    )


@lru_cache
def _rules(tag: str) -> tuple[_Rule, ...]:
    """Signs, abbreviations and numbers become words; each rule sees what those before it left."""
    language = language_of(tag)
    signs = "".join(map(re.escape, language.signs))
    return (
        _minus(language),  # first: `5%-10%` is a range, `percent -10` would not be
        (re.compile(f"[{signs}]"), lambda found: language.signs[found[0]]),
        _abbreviations(language),
        *_numbers(tag, language),
    )


def _minus(language: Language) -> _Rule:
    """A hyphen is one where a word could begin, unless it may join the numbers of `555 -1234`."""
    money = "".join(CURRENCIES)
    pattern = rf"(?:(?<![^\s(=])(?<!\d\s)-|\u2212\s?)(?=(?:[{money}]\s?)?[\d{PARTS}])"
    return re.compile(pattern), lambda found: f" {language.minus} "


def _abbreviations(language: Language) -> _Rule:
    """With the full stop that marks them as such, which those with a sign inside may lack."""
    ways = [
        re.escape(short).replace(r"\ ", r"\s?") + (r"\.?" if re.search(r"\W", short) else r"\.")
        for short in sorted(language.abbreviations, key=len, reverse=True)
    ]
    pattern = re.compile(rf"(?<![\w.])({'|'.join(ways)})(?!\w)")
    words = {short.replace(" ", ""): said for short, said in language.abbreviations.items()}
    return pattern, lambda found: f" {words[''.join(found[0].split()).removesuffix('.')]} "


def _numbers(tag: str, language: Language) -> tuple[_Rule, ...]:
    decimal, group = separators(tag)
    groups = f"[{_NARROW}]" if group in _NARROW else re.escape(group)
    point, number = re.escape(decimal), rf"\d+(?:{groups}\d{{3}})*"
    money = "".join(CURRENCIES)
    signs = "|".join(re.escape(one) for one in sorted(units(tag), key=len, reverse=True))
    behind = r"\s?" if currency_leads(tag) else ""  # in `2 $5` the sign is that of the 5
    points = "".join(map(re.escape, language.point or decimal))

    def quantity(written: str) -> Decimal:
        whole = written.rstrip(PARTS).rstrip()
        if not whole:
            return language.part_count
        part = Decimal("0.5") if whole != written else 0  # plural forms ask only whether there is
        return Decimal(re.sub(groups, "", whole).replace(decimal, ".")) + part

    def amount(found: re.Match[str]) -> str:
        symbol, whole, cents = found["before"] or found["after"], found["whole"], found["cents"]
        whole = re.sub(groups, "", whole)
        if _is_code(whole):
            return f" {_said(whole, language)} {language.currency(CURRENCIES[symbol])} "
        return f" {language.amount(CURRENCIES[symbol], int(whole), int(cents or 0))} "

    return (
        (
            re.compile(
                rf"(?:(?P<before>[{money}])\s?)?(?<![\d.,])(?P<whole>{number})"
                rf"(?:{point}(?P<cents>\d\d))?(?![\d{point}]*\d)"
                rf"(?(before)|\s?(?P<after>[{money}])(?!{behind}\d))"
            ),
            amount,
        ),
        (
            re.compile(
                rf"({number}(?:{point}\d+)?(?:\s?[{PARTS}])?|[{PARTS}])\s?({signs})(?![^\W\d_])"
            ),
            lambda found: f"{found[1]} {unit_name(units(tag)[found[2]], quantity(found[1]), tag)} ",
        ),
        (
            re.compile(rf"(?<![\d.,])(\d{{1,3}}(?:{groups}\d{{3}})+)(?![\d{group}])"),
            lambda found: re.sub(groups, "", found[1]),
        ),
        (
            re.compile(rf"(?<!\d)([1-9]\d{{0,8}})({language.ordinal})(?!\w)"),
            lambda found: f" {language.nth(int(found[1]), found[2])} ",
        ),
        (
            re.compile(rf"(?<=\d)\s?(?P<behind>[{PARTS}])|[{PARTS}]"),
            lambda found: f" {language.parts[PARTS.index(found[0][-1])][bool(found['behind'])]} ",
        ),
        (
            re.compile(rf"(\d+)([{points}])(\d+)"),
            lambda found: f" {_fraction(found[1], found[2], found[3], language)} ",
        ),
        (_DIGITS, lambda found: f" {_said(found[0], language)} "),
    )


def _fraction(whole: str, sign: str, digits: str, language: Language) -> str:
    if language.point is not None:
        return f"{_said(whole, language)} {language.point[sign]} {_one_by_one(digits, language)}"
    if _is_code(whole) or len(digits) > _LONGEST_NUMBER:
        return f"{_said(whole, language)} {_one_by_one(digits, language)}"
    return language.cardinal(Decimal(f"{whole}.{digits}"))


def _is_code(digits: str) -> bool:
    """Whether digits are read one by one: a leading zero, or too many of them."""
    return len(digits) > _LONGEST_NUMBER or (len(digits) > 1 and digits[0] == "0")


def _said(digits: str, language: Language) -> str:
    return _one_by_one(digits, language) if _is_code(digits) else language.cardinal(int(digits))


def _one_by_one(digits: str, language: Language) -> str:
    return " ".join(language.cardinal(int(digit)) for digit in digits)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
