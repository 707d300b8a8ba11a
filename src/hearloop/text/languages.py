"""What is particular to each language that transcripts can be in.

Numbers come from num2words, units and separators from CLDR through Babel. The tables hold what
neither knows: the letters in which a recogniser writes, abbreviations, and names of signs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal

from babel import Locale, UnknownLocaleError
from babel.numbers import get_currency_name
from babel.units import format_unit
from num2words import num2words

from hearloop.errors import InvalidTranscript

__all__ = [
    "CURRENCIES",
    "PARTS",
    "Language",
    "currency_leads",
    "language_of",
    "separators",
    "unit_name",
    "units",
]

_LATIN: Final = "abcdefghijklmnopqrstuvwxyz"

CURRENCIES: Final = {"$": "USD", "£": "GBP", "€": "EUR", "₽": "RUB"}

PARTS: Final = "½¼¾"
"""Fractions in one character, in the order of `Language.parts`."""

_UNITS: Final = (
    "concentr-percent", "digital-gigabyte", "digital-megabyte", "frequency-kilohertz",
    "frequency-megahertz", "length-centimeter", "length-kilometer", "length-millimeter",
    "mass-kilogram", "speed-kilometer-per-hour", "temperature-celsius", "temperature-fahrenheit",
    "volume-milliliter",
)  # fmt: skip
"""Units of CLDR whose signs mean nothing else: `m` and `h` may be letters that somebody says."""


@dataclass(frozen=True, kw_only=True)
class Language:
    """How one language is written and spoken.

    code: of ISO 639; territory: whose separators hold where a tag names none; alphabet: the
    characters of a normalised transcript, in the order in which tokenizers number them; signs:
    what is said for a sign; minus: what is said before a negative number; parts: what is said
    for each of PARTS alone, and behind a number; abbreviations: in lower case, without the full
    stop that ends them, which only those with a sign inside may lack, a space where writers may
    leave one; titles: abbreviations with a full stop or without; point: the word for a decimal
    separator, None where num2words says the whole fraction; ordinal: pattern of an ordinal's
    ending; endings: patterns of those that inflect it, its last letters and what replaces them.
    """

    code: str
    territory: str
    alphabet: str
    signs: Mapping[str, str]
    minus: str
    parts: tuple[tuple[str, str], ...]
    abbreviations: Mapping[str, str]
    point: Mapping[str, str] | None
    ordinal: str
    endings: tuple[tuple[str, str, str], ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    cased: Mapping[str, str] = field(default_factory=dict)
    """What is said for patterns that capital letters tell from others."""
    part_count: Decimal = Decimal(1)
    """The number whose plural form a unit takes behind one of PARTS alone."""
    units: tuple[str, ...] = ()
    """Units whose signs mean nothing else in this language, beside _UNITS."""
    letters: Mapping[str, str] = field(default_factory=dict)
    """Letters that writers leave out for another at will."""
    money: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """One and several of a currency, where people say less than num2words."""

    def cardinal(self, number: int | Decimal) -> str:
        """A quantity in words."""
        return str(num2words(number, lang=self.code))

    def currency(self, currency: str) -> str:
        """What several of a currency are called."""
        several = 5  # in Russian two to four take another form
        return self.amount(currency, several, 0).removeprefix(self.cardinal(several)).strip()

    def amount(self, currency: str, whole: int, cents: int) -> str:
        """A sum of money in words; `cents` are not said when there are none."""
        if currency in self.money:
            said = f"{self.cardinal(whole)} {self.money[currency][whole != 1]}"
            zero = f" {self.cardinal(0)}" if 0 < cents < 10 else ""  # "five zero five", for 5.05
            return said + zero + (f" {self.cardinal(cents)}" if cents else "")
        try:
            spelled = num2words(
                Decimal(whole) + Decimal(cents) / 100,
                lang=self.code, to="currency", currency=currency, separator="|",
            )  # fmt: skip
        except NotImplementedError:
            name = get_currency_name(currency, whole, locale=locale_of(self.code))
            return f"{self.cardinal(whole)} {name}" + (f" {self.cardinal(cents)}" if cents else "")
        pounds, _, pence = spelled.partition("|")
        return f"{pounds} {pence if cents else ''}"

    def nth(self, number: int, ending: str) -> str:
        """The ordinal of a number; its written ending may inflect it."""
        words = str(num2words(number, lang=self.code, to="ordinal"))
        for pattern, last, inflected in self.endings:
            if re.fullmatch(pattern, ending):
                return re.sub(f"{last}$", inflected, words)
        return words


def _signs(and_: str, plus: str, at: str, equals: str) -> dict[str, str]:
    return {"&": f" {and_} ", "+": f" {plus} ", "@": f" {at} ", "=": f" {equals} "}


_LANGUAGES: Final = {
    language.code: language
    for language in (
        Language(
            code="en",
            territory="US",
            alphabet=_LATIN + "' ",
            signs={"%": " percent "} | _signs("and", "plus", "at", "equals"),
            minus="minus",
            parts=(
                ("one half", "and a half"), ("one quarter", "and a quarter"),
                ("three quarters", "and three quarters"),
            ),
            abbreviations={
                "prof": "professor", "etc": "et cetera", "e.g": "for example", "i.e": "that is",
            },
            titles={"mr": "mister", "mrs": "missus", "dr": "doctor"},
            point={".": "point"},
            ordinal="st|nd|rd|th",
            money={
                "USD": ("dollar", "dollars"), "GBP": ("pound", "pounds"), "EUR": ("euro", "euros"),
            },
        ),
        Language(
            code="it",
            territory="IT",
            alphabet=_LATIN + "àèéìíîòóùú' ",
            signs=_signs("e", "più", "chiocciola", "uguale"),
            minus="meno",
            parts=(
                ("mezzo", "e mezzo"), ("un quarto", "e un quarto"), ("tre quarti", "e tre quarti"),
            ),
            abbreviations={
                "sig": "signor", "sig.ra": "signora", "dott": "dottor", "dott.ssa": "dottoressa",
                "prof": "professor", "ecc": "eccetera", "tel": "telefono", "n°": "numero",
            },
            point={",": "virgola", ".": "punto"},
            ordinal="[°ºª]",
            endings=(("ª", "o", "a"),),
        ),
        Language(
            code="es",
            territory="ES",
            alphabet=_LATIN + "áéíóúüñ' ",
            signs=_signs("y", "más", "arroba", "igual"),
            minus="menos",
            parts=(
                ("medio", "y medio"), ("un cuarto", "y un cuarto"),
                ("tres cuartos", "y tres cuartos"),
            ),
            abbreviations={
                "ud": "usted", "uds": "ustedes", "etc": "etcétera", "tel": "teléfono",
                "núm": "número",
            },
            titles={
                "sr": "señor", "sra": "señora", "srta": "señorita", "dr": "doctor",
                "dra": "doctora",
            },
            point={",": "coma", ".": "punto"},
            ordinal=r"\.?(?:[°ºª]|er|ra)",
            endings=((r"\.?(?:ª|ra)", "o", "a"), (r"\.?er", "ero", "er")),
        ),
        Language(
            code="fr",
            territory="FR",
            alphabet=_LATIN + "àâæçèéêëîïôœùûüÿ' ",
            signs=_signs("et", "plus", "arobase", "égale"),
            minus="moins",
            parts=(
                ("demi", "et demi"), ("un quart", "et un quart"),
                ("trois quarts", "et trois quarts"),
            ),
            abbreviations={
                "etc": "et cetera", "tél": "téléphone", "p. ex": "par exemple", "n°": "numéro",
            },
            titles={"dr": "docteur", "mme": "madame", "mlle": "mademoiselle"},
            # Not behind another initial: `J. M. Roux` is no monsieur.
            cased={r"(?<![\w.])(?<!\b[A-Z]\.\s)M\.(?=\s[A-ZÀ-ÖØ-ÞŒ])": "monsieur"},
            point={",": "virgule", ".": "point"},
            ordinal="ers?|res?|ères?|èmes?|es?|nde?",
            endings=(("res?|ères?", "premier", "première"),),
            units=("duration-hour",),
        ),
        Language(
            code="ru",
            territory="RU",
            alphabet="абвгдежзийклмнопрстуфхцчшщъыьэюя ",
            signs={"№": " номер "} | _signs("и", "плюс", "собака", "равно"),
            minus="минус",
            parts=(
                ("половина", "с половиной"), ("четверть", "с четвертью"),
                ("три четверти", "с тремя четвертями"),
            ),
            part_count=Decimal("0.5"),
            abbreviations={
                "ул": "улица", "руб": "рублей", "коп": "копеек", "тел": "телефон",
                "т. е": "то есть", "т. д": "так далее", "т. п": "тому подобное", "др": "другие",
                "доб": "добавочный",
            },
            point=None,
            ordinal="-?(?:й|го|му|м|я|ю|е|ое|ая|ый)",
            letters={"ё": "е"},
        ),
    )
}  # fmt: skip


def language_of(tag: str) -> Language:
    """The language of a tag such as `es` or `es-MX`. Raises InvalidTranscript for one unknown."""
    found = _LANGUAGES.get(tag.replace("_", "-").partition("-")[0].lower())
    if found is None:
        raise InvalidTranscript(
            f"The language is {tag!r}; transcripts can be normalised in {', '.join(_LANGUAGES)}."
        )
    return found


@lru_cache
def locale_of(tag: str) -> Locale:
    """CLDR's conventions for a tag; those of the language where it has none for the territory."""
    language = language_of(tag)
    try:
        return Locale.parse(tag if "-" in tag else f"{language.code}-{language.territory}", sep="-")
    except (UnknownLocaleError, ValueError):
        return Locale.parse(f"{language.code}_{language.territory}")


def separators(tag: str) -> tuple[str, str]:
    """The decimal separator and the one between thousands."""
    symbols = locale_of(tag).number_symbols
    latin = symbols.get("latn", symbols)
    return latin["decimal"], latin["group"]


def currency_leads(tag: str) -> bool:
    """Whether the sign of a currency is written before the number."""
    return bool(locale_of(tag).currency_formats["standard"].pattern.startswith("¤"))


@lru_cache
def units(tag: str) -> Mapping[str, str]:
    """CLDR's units by their signs, in lower case."""
    every = (*_UNITS, *language_of(tag).units)
    return {_unit(unit, Decimal(5), "short", tag).lower(): unit for unit in every}


def unit_name(unit: str, count: Decimal, tag: str) -> str:
    """What is said for a unit behind a number, in the number's plural form."""
    return _unit(unit, count, "long", tag)


def _unit(unit: str, count: Decimal, length: Literal["short", "long"], tag: str) -> str:
    spelled = format_unit(count, unit, length=length, locale=locale_of(tag))
    return spelled.lstrip("-0123456789.,\u00a0\u202f ")
