import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.errors import InvalidInput, InvalidTranscript
from hearloop.hotwords import MOST_HOTWORDS, Hotword, Hotwords
from hearloop.tokenizer import Tokenizer

TOKENIZER = Tokenizer("abcd ")


def bonus(text: str, *phrases: str, boost: float = 1.0) -> float:
    """Nats that a whole text earns."""
    hotwords = Hotwords([Hotword(phrase=p, boost=boost) for p in phrases], TOKENIZER)
    state, total = hotwords.start, 0.0
    for index in TOKENIZER.encode(text):
        state, nats = hotwords.step(state, index)
        total += nats
    return total + hotwords.end(state)


@pytest.mark.parametrize(
    ("text", "phrases", "nats"),
    [
        ("ab", ["ab"], 3),  # two characters and the end of the word
        ("ab cd ab", ["ab"], 6),
        ("abc", ["ab"], 0),
        ("dab", ["ab"], 0),
        ("ab c", ["ab cd"], 0),
        ("ab ab cd", ["ab cd"], 6),
        ("ab cd", ["ab d", "cd"], 3),
        ("a b", ["a b", "b"], 4),
        ("cc", ["ab"], 0),
        ("", ["ab"], 0),
    ],
)
def test_only_whole_phrases_earn(text: str, phrases: list[str], nats: float) -> None:
    assert bonus(text, *phrases) == pytest.approx(nats)
    assert bonus(text, *phrases, boost=2.0) == pytest.approx(2 * nats)


WORDS = st.lists(st.text("abcd", min_size=1, max_size=3), min_size=1, max_size=5).map(" ".join)


@settings(deadline=None, derandomize=True)
@given(WORDS, WORDS)
def test_one_phrase_earns_each_time_it_is_said(text: str, phrase: str) -> None:
    spaced = f" {text} "
    said = sum(spaced.startswith(f" {phrase} ", place) for place in range(len(spaced)))
    assert bonus(text, phrase) == pytest.approx(said * (len(phrase) + 1))


@settings(deadline=None, derandomize=True)
@given(WORDS, st.lists(WORDS, min_size=1, max_size=4))
def test_what_was_not_said_earns_nothing_and_costs_nothing(text: str, phrases: list[str]) -> None:
    heard = any(f" {phrase} " in f" {text} " for phrase in phrases)
    assert (bonus(text, *phrases) > 0) == heard
    assert bonus(text, *phrases) >= 0


def test_refuses_what_cannot_be_expected() -> None:
    with pytest.raises(InvalidInput, match="empty"):
        Hotwords([Hotword(phrase=" ")], TOKENIZER)
    with pytest.raises(InvalidInput, match=str(MOST_HOTWORDS)):
        Hotwords([Hotword(phrase="a")] * (MOST_HOTWORDS + 1), TOKENIZER)
    with pytest.raises(InvalidTranscript, match="é"):
        Hotwords([Hotword(phrase="café")], TOKENIZER)
