import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.errors import InvalidTranscript
from hearloop.text import ALPHABET, normalise


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


TEXT = st.text() | st.text("abcABC' ,.-0123456789$£€%&@th\u2019é", max_size=40)


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
