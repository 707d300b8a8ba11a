from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.decoding import Word
from serving.subtitles import LONGEST_S, LONGEST_TEXT, segments, srt, vtt


def word(text: str, start_s: float, end_s: float) -> Word:
    return Word(text=text, start_s=start_s, end_s=end_s, confidence=0.5)


def test_a_pause_begins_a_new_subtitle() -> None:
    words = [word("pay", 0.5, 0.8), word("now", 0.9, 1.2), word("please", 3661.25, 3662.0)]
    assert srt(words) == (
        "1\n00:00:00,500 --> 00:00:01,200\npay now\n\n2\n01:01:01,250 --> 01:01:02,000\nplease\n\n"
    )
    assert vtt(words) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.200\npay now\n\n"
        "01:01:01.250 --> 01:01:02.000\nplease\n\n"
    )


def test_silence_has_no_subtitles() -> None:
    assert (srt([]), vtt([])) == ("", "WEBVTT\n\n")


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=30), st.floats(0.05, 3.0))))
def test_every_word_is_in_one_readable_segment(drawn: list[tuple[str, float]]) -> None:
    words, at = [], 0.0
    for text, step in drawn:
        words.append(word(text, at, at + step / 2))
        at += step
    found = segments(words)
    assert [one for segment in found for one in segment.words] == words
    for segment in found:
        assert segment.end_s - segment.start_s <= LONGEST_S
        assert len(segment.text) <= LONGEST_TEXT
