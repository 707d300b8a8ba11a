"""A call that is heard again after a crash says what is new, and nothing twice."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.decoding import Word, transcript
from hearloop.features import Samples
from hearloop.streaming import Final
from serving.calls.call import Call, Published
from serving.calls.engines import Opened
from serving.calls.pieces import Piece, Place, Record
from serving.pcm import Pcm

PROPERTY = settings(deadline=None, derandomize=True, max_examples=50)


class Stream:
    """Stands where the engine's stream is: keeps what it is told."""

    waiting_s = 0.0

    def __init__(self) -> None:
        self.samples = 0
        self.finished = False

    def accept(self, samples: Samples) -> None:
        self.samples += len(samples)

    def finish(self) -> None:
        self.finished = True


def piece(
    number: int, *, last: bool = False, audio: bytes | None = None, consent: bool | None = None
) -> Piece:
    return Piece(
        place=Place(partition=0, offset=10 + number),
        call="call-1",
        tenant="acme",
        speaker="anna",
        audio=np.zeros(1600, "<i2").tobytes() if audio is None else audio,
        pcm=Pcm(rate=16_000),
        sequence=number,
        last=last,
        consent=consent,
    )


def opened(
    published: Published, version: str = "1", given: bool = True, phrases: str = ""
) -> tuple[Call, Stream]:
    stream = Stream()
    found = Opened(version=version, phrases=phrases, stream=stream)  # type: ignore[arg-type]
    return Call(piece(0), published, given, lambda _: found), stream


def final(number: int, words: int = 2) -> Final:
    """Utterance of that number: it takes two seconds, its words half a second each."""
    start = 2.0 * number
    said = [
        Word(
            text=f"w{number}", start_s=start + 0.5 * at, end_s=start + 0.5 * at + 0.4, confidence=1
        )
        for at in range(words)
    ]
    return Final(
        utterance=number,
        transcript=transcript(said),
        start_s=start,
        end_s=start + 1.9,
        revised_words=0,
    )


def told(call: Call, count: int) -> list[Record]:
    records = [call.said(final(number)) for number in range(count)]
    return [one for one in records if one is not None]


def remembered(records: Sequence[Record]) -> Published:
    published = Published()
    for one in records:
        published = published.with_record(one)
    return published


@PROPERTY
@given(st.integers(0, 8), st.integers(0, 8), st.booleans())
def test_heard_again_from_the_beginning_it_goes_on_where_it_was(
    before: int, after: int, twice: bool
) -> None:
    whole = told(opened(Published())[0], before + after)
    published = whole[:before] + (whole[:before] if twice else [])
    again = told(opened(remembered(published))[0], before + after)
    assert [one.id for one in whole[:before] + again] == [one.id for one in whole]
    assert [one.transcript for one in whole[:before] + again] == [one.transcript for one in whole]


@PROPERTY
@given(st.integers(1, 5), st.integers(0, 5), st.sampled_from([("2", ""), ("1", "others")]))
def test_another_version_or_other_phrases_leave_out_the_words_that_were_published(
    before: int, after: int, by: tuple[str, str]
) -> None:
    first = told(opened(Published(), "1")[0], before)
    second = told(opened(remembered(first), by[0], phrases=by[1])[0], before + after)
    words = [word for one in first + second if one.transcript for word in one.transcript.words]
    starts = [word.start_s for word in words]
    assert starts == sorted(set(starts))
    assert len(words) == 2 * (before + after)
    assert [one.number for one in first + second] == list(range(before + after))


def test_a_piece_that_comes_twice_is_heard_once() -> None:
    call, stream = opened(Published())
    for number in (0, 0, 1, 0, 1, 2):
        call.take(piece(number))
    assert stream.samples == 3 * 1600


def test_after_the_last_piece_nothing_is_heard() -> None:
    call, stream = opened(Published())
    call.take(piece(0))
    call.take(piece(1, last=True))
    call.take(piece(2))
    assert (stream.samples, stream.finished) == (2 * 1600, True)
    assert call.ended().until == 12


def test_half_a_sample_is_passed_over_and_the_call_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    call, stream = opened(Published())
    call.take(piece(0, audio=b"\x00"))
    call.take(piece(1))
    assert stream.samples == 1600
    assert "call-1" in caplog.text


@pytest.mark.parametrize(
    ("given", "said", "kept"),
    [
        (True, [None, None], True),
        (False, [None, None], False),
        (False, [None, True, None], True),
        (True, [None, False, None], False),
        (True, [False, True], False),
    ],
)
def test_it_is_kept_as_its_pieces_say_or_else_the_contract(
    given: bool, said: list[bool | None], kept: bool
) -> None:
    call, _ = opened(Published(), given=given)
    for number, consent in enumerate(said):
        call.take(piece(number, consent=consent))
    caller = call.caller("r")
    assert (caller.consent, caller.tenant, caller.speaker) == (kept, "acme", "anna")
    assert (caller.call, caller.request_id) == ("call-1", "r")
