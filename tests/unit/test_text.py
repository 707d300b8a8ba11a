import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.errors import InvalidTranscript
from hearloop.text import ALPHABET, alphabet, normalise


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Hello,  World!\n", "hello world"),
        ("It’s o'clock", "it's o'clock"),
        ("the callers' 'quote'", "the callers quote"),
        ("25", "twenty five"),
        ("1,234", "one thousand two hundred and thirty four"),
        ("3.14", "three point one four"),
        ("the 21st", "the twenty first"),
        ("extension 007", "extension zero zero seven"),
        ("call 12345678901", "call one two three four five six seven eight nine zero one"),
        ("£5.50", "five pounds fifty"),
        ("$1 and €1,000", "one dollar and one thousand euros"),
        ("50% & more", "fifty percent and more"),
        ("Café—naïve", "cafe naive"),
        ("½ ﬁne"[2:], "fine"),
    ],
)
def test_what_is_written_is_spelled_as_it_is_said(written: str, said: str) -> None:
    assert normalise(written) == said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no words"),
        ("...", "holds no words"),
        ("[noise]", "marks in brackets"),
        ("yes <unk>", "marks in brackets"),
        ("日本", "CJK"),
        ("straße", "SHARP S"),
        ("ok \U0001f600", "GRINNING FACE"),
        ("bad \ufffd byte", "REPLACEMENT CHARACTER"),
    ],
)
def test_what_cannot_be_a_transcript_is_refused_with_its_reason(text: str, message: str) -> None:
    with pytest.raises(InvalidTranscript, match=message):
        normalise(text)


def test_other_languages_are_refused() -> None:
    assert normalise("Hello", "en-GB") == "hello"
    with pytest.raises(InvalidTranscript, match="'de'"):
        normalise("Hallo", "de")


TEXT = st.text() | st.text("abcABC' ,.-0123456789$£€%&@th\u2019é\u2212½mrd", max_size=40)


@settings(deadline=None, derandomize=True, max_examples=400)
@given(TEXT)
def test_normalising_twice_changes_nothing(text: str) -> None:
    try:
        once = normalise(text)
    except InvalidTranscript:
        return
    assert once
    assert set(once) <= set(ALPHABET)
    assert once == " ".join(once.split())
    assert normalise(once) == once


@pytest.mark.parametrize(
    ("language", "written", "said"),
    [
        (
            "it",
            "L’operatore è al 2° piano; la 3ª, sig. Rossi ecc.",
            "l'operatore è al secondo piano la terza signor rossi eccetera",
        ),
        (
            "it",
            "€ 1.234,50 o 28.8 kbps, il 50%, 5 km",
            "milleduecentotrentaquattro euro cinquanta centesimi o ventotto punto otto kbps "
            "il cinquanta percento cinque chilometri",
        ),
        ("it", "perche\u0301 no? Un po' d'aria", "perché no un po d'aria"),
        ("es", "1.234,5 kg", "mil doscientos treinta y cuatro coma cinco kilogramos"),
        ("es-MX", "1,234.5 kg", "mil doscientos treinta y cuatro punto cinco kilogramos"),
        ("es", "¿La 2ª, Sr. Núñez?", "la segunda señor núñez"),
        (
            "fr",
            "Le 1er, la 1re et le 21e à 10h30 : 1\u202f234 km",
            "le premier la première et le vingt et unième à dix heures trente "
            "mille deux cent trente quatre kilomètres",
        ),
        ("fr-CA", "« 3,50 $ » pour Mme. Noël", "trois dollars cinquante cents pour madame noël"),
        ("fr", "514 555 0123", "cinq cent quatorze cinq cent cinquante cinq zéro un deux trois"),
        (
            "ru",
            "Ещё 2-й этаж: 3 ₽, 5 км и 28,8 %",
            "еще второй этаж три рубля пять километров и двадцать восемь целых восемь десятых "
            "процента",
        ),
        ("ru", "и\u0306 № 7", "й номер семь"),
    ],
)
def test_each_language_is_spelled_as_it_is_said(language: str, written: str, said: str) -> None:
    assert normalise(written, language) == said


@pytest.mark.parametrize(
    ("language", "written", "said"),
    [
        ("en", "-5 °C", "minus five degrees celsius"),
        (
            "en",
            "\u22125 or (-$5) is 8 \u2212 13",
            "minus five or minus five dollars is eight minus thirteen",
        ),
        ("en", "x=-0.5, not -½", "x equals minus zero point five not minus one half"),
        ("it", "-5 °C, -3 €", "meno cinque gradi celsius meno tre euro"),
        ("fr", "\u22125 °C", "moins cinq degrés celsius"),
        ("es", "-5 °C", "menos cinco grados celsius"),
        ("ru", "\u22125 °C", "минус пять градусов цельсия"),
    ],
)
def test_a_minus_is_said(language: str, written: str, said: str) -> None:
    assert normalise(written, language) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("twenty-one, 2-3", "twenty one two three"),
        ("555 -1234, 2 - 3", normalise("555 1234, 2 3")),
        ("555-1234", normalise("555 1234")),
        ("5%-10%", "five percent ten percent"),
    ],
)
def test_a_hyphen_is_no_minus(written: str, said: str) -> None:
    assert normalise(written) == said


@pytest.mark.parametrize(
    ("language", "written", "said"),
    [
        ("en", "Mr Smith, Mr. Smith", "mister smith mister smith"),
        ("en", "Mrs Roe at the Dr's; Drew", "missus roe at the doctor's drew"),
        ("es", "Sr Núñez, Sra. Gil, Dra Paz", "señor núñez señora gil doctora paz"),
        ("fr", "Mme Noël, Mlle Roux, Dr Petit", "madame noël mademoiselle roux docteur petit"),
        ("fr", "M. Élie, J. M. Roux, 5 m. de", "monsieur élie j m roux cinq m de"),
        ("fr", "p. ex. ici", "par exemple ici"),
        ("ru", "т. е. да и т.\u00a0д. и т.п.", "то есть да и так далее и тому подобное"),
    ],
)
def test_abbreviations_are_said_however_they_are_written(
    language: str, written: str, said: str
) -> None:
    assert normalise(written, language) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1.er, 3er piso", "primer tercer piso"),
        ("la 2.ª y el 1.º", "la segunda y el primero"),
    ],
)
def test_spanish_ordinals_may_have_a_full_stop(written: str, said: str) -> None:
    assert normalise(written, "es") == said


@pytest.mark.parametrize(
    ("language", "written", "said"),
    [
        ("en", "½ cup, 1 ½ cups, ¾", "one half cup one and a half cups three quarters"),
        ("en", "½ km, 1½ km", "one half kilometer one and a half kilometers"),
        ("it", "1½ o ¼, 2½ %", "uno e mezzo o un quarto due e mezzo percento"),
        ("es", "2¾, ½", "dos y tres cuartos medio"),
        ("fr", "2½, ¼", "deux et demi un quart"),
        ("ru", "2½ км, ½ км, ¾", "два с половиной километра половина километра три четверти"),
    ],
)
def test_fractions_in_one_character_are_said(language: str, written: str, said: str) -> None:
    assert normalise(written, language) == said


def test_letters_of_another_alphabet_are_refused() -> None:
    with pytest.raises(InvalidTranscript, match="LATIN SMALL LETTER Q"):
        normalise("нажмите Q", "ru")


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    st.sampled_from(["it", "es", "es-MX", "fr", "fr-CA", "ru"]),
    st.text() | st.text("abcÀÉéñùœЁёйтд' ,.-0123456789$€%°ªkmhMer\u0301\u202f\u2212½", max_size=40),
)
def test_every_language_writes_its_alphabet_and_settles(language: str, text: str) -> None:
    try:
        once = normalise(text, language)
    except InvalidTranscript:
        return
    assert set(once) <= set(alphabet(language))
    assert unicodedata.normalize("NFC", once) == once
    assert normalise(once, language) == once


GOLDEN = [
    (
        "You have 12 new messages, and 1 old message.",
        "you have twelve new messages and one old message",
    ),
    (
        "Press 1 for sales; press 2 -- or hold (please)!",
        "press one for sales press two or hold please",
    ),
    (
        "Your extension is 4242, your PIN is 0042.",
        (
            "your extension is four thousand two hundred and forty two your pin is zero zero "
            "four two"
        ),
    ),
    ("Don’t hang up: we're on the line 24/7", "don't hang up we're on the line twenty four seven"),
    (
        "the 1st, 2nd, 3rd and 112th caller",
        "the first second third and one hundred and twelfth caller",
    ),
    (
        "It costs £1,234.05, not €12 or $0.99.",
        (
            "it costs one thousand two hundred and thirty four pounds zero five not twelve "
            "euros or zero dollars ninety nine"
        ),
    ),
    ("AT&T + 50% = half @ noon", "at and t plus fifty percent equals half at noon"),
    (
        "version 2.10.3 of 28.8 kilobit",
        "version two point one zero three of twenty eight point eight kilobit",
    ),
    ("A.M. and P.M.", "a m and p m"),
    ("naïve façade, El Niño,", "naive facade el nino"),
    (
        "1,000,000 or 1,00 or 12,345,6",
        "one million or one zero zero or twelve three hundred and forty five six",
    ),
    ("'Tis rock 'n' roll, y'all's", "tis rock n roll y'all's"),
    ("O’Neill—“quoted” … done", "o'neill quoted done"),
    ("10:05 on 2024-01-31", "ten zero five on two thousand and twenty four zero one thirty one"),
    ("x2y3 100th 0th 007th", "x two y three one hundredth zero th zero zero seven th"),
    (
        "call 555-0123 or 18005550199",
        (
            "call five hundred and fifty five zero one two three or one eight zero zero five "
            "five five zero one nine nine"
        ),
    ),
    (" tab\tand\xa0nbsp\u2003em ", "tab and nbsp em"),
]
"""Champions learnt from texts spelled like this: another spelling would be an error of theirs."""


@pytest.mark.parametrize(("written", "said"), GOLDEN)
def test_english_stays_as_champions_learnt_it(written: str, said: str) -> None:
    assert normalise(written) == said
    assert normalise(written, "en-GB") == said
