import random
import time

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.scoring import (
    ErrorCounts,
    ScoredUtterance,
    align,
    answer,
    count_characters,
    count_words,
    slices,
    total,
)

words = st.lists(
    st.sampled_from(["a", "call", "my", "mother", "now", "it's", "più", "ещё"]), max_size=9
)


@given(reference=words, hypothesis=words)
@settings(deadline=None, derandomize=True)
def test_counts_equal_jiwers(reference: list[str], hypothesis: list[str]) -> None:
    spoken, heard = " ".join(reference), " ".join(hypothesis)
    theirs, ours = jiwer.process_words([spoken], [heard]), count_words(spoken, heard)
    assert (ours.hits, ours.substitutions) == (theirs.hits, theirs.substitutions)
    assert (ours.insertions, ours.deletions) == (theirs.insertions, theirs.deletions)
    assert ours.rate == pytest.approx(theirs.wer)
    letters, our_letters = (
        jiwer.process_characters([spoken], [heard]),
        count_characters(spoken, heard),
    )
    assert our_letters.hits == letters.hits
    assert our_letters.substitutions == letters.substitutions
    assert our_letters.insertions == letters.insertions
    assert our_letters.deletions == letters.deletions
    assert our_letters.rate == pytest.approx(letters.cer)


@given(reference=words, hypothesis=words)
@settings(deadline=None, derandomize=True)
def test_an_alignment_reads_back_as_both_texts(reference: list[str], hypothesis: list[str]) -> None:
    spoken, heard = " ".join(reference), " ".join(hypothesis)
    pairs = align(spoken, heard)
    assert [pair.reference for pair in pairs if pair.reference is not None] == reference
    assert [pair.hypothesis for pair in pairs if pair.hypothesis is not None] == hypothesis
    counts = count_words(spoken, heard)
    assert sum(pair.edit == "hit" for pair in pairs) == counts.hits
    assert sum(pair.edit != "hit" for pair in pairs) == counts.errors
    assert all((pair.edit == "hit") == (pair.reference == pair.hypothesis) for pair in pairs)


def test_counts_add_up() -> None:
    one, other = count_words("a b c", "a x"), count_words("d e", "d e f")
    assert total([one, other]) == ErrorCounts(hits=3, substitutions=1, insertions=1, deletions=1)
    assert total([one, other]).rate == pytest.approx(3 / 5)
    assert total([]) == ErrorCounts()


def test_an_empty_reference_counts_as_one_word() -> None:
    assert count_words("", "two words").rate == 2.0
    assert count_words("", "").rate == 0.0


def test_five_thousand_utterances_are_scored_in_a_second() -> None:
    draw = random.Random(0)
    lexicon = [f"word{number}" for number in range(130)]
    references = [" ".join(draw.choices(lexicon, k=8)) for _ in range(5000)]
    hypotheses = [" ".join(draw.choices(lexicon, k=8)) for _ in range(5000)]
    began = time.process_time()
    scored = [answer(*pair, 0.5) for pair in zip(references, hypotheses, strict=True)]
    assert time.process_time() - began < 1.0
    assert total(one.words for one in scored).length == 40_000


@pytest.mark.parametrize(
    ("seconds", "snr_db", "duration", "snr"),
    [
        (1.99, 9.9, "under 2 s", "under 10 dB"),
        (2.0, 10.0, "2 to 5 s", "10 to 20 dB"),
        (5.0, 20.0, "5 s or more", "20 dB or more"),
        (900.0, float("inf"), "5 s or more", "20 dB or more"),
    ],
)
def test_slices(seconds: float, snr_db: float, duration: str, snr: str) -> None:
    found = slices(accent=None, source="synthetic", seconds=seconds, snr_db=snr_db)
    assert found == {
        "accent": "unknown",
        "duration": duration,
        "snr": snr,
        "source": "synthetic",
    }


def test_a_block_is_the_speaker_else_the_call_else_the_utterance() -> None:
    def block(speaker: str | None, call: str | None) -> str:
        return ScoredUtterance(
            id="u1",
            speaker=speaker,
            call=call,
            reference="yes",
            seconds=1.0,
            audio_uri="s3://audio/u1.flac",
            audio_digest="",
            slices={},
            answers={},
        ).block

    assert block("x", "x") == block("x", "y")
    assert len({block("x", "x"), block(None, "x"), block(None, None)}) == 3
