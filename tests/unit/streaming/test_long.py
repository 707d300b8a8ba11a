from collections.abc import Iterator

import numpy as np
import pytest

from hearloop.features import Samples
from hearloop.recogniser import Recogniser
from hearloop.streaming import transcribe_long
from hearloop.streaming.long import _LONGEST
from tests.unit.streaming.conftest import voice

PAUSE = np.zeros(16_000, np.float32)


def recording(utterances: int) -> Samples:
    said = [voice(0.8 + 0.1 * number, number) for number in range(utterances)]
    return np.concatenate([PAUSE, *(part for one in said for part in (one, PAUSE))])


def blocks(samples: Samples, length: int) -> Iterator[Samples]:
    for start in range(0, len(samples), length):
        yield samples[start : start + length]


def test_the_result_does_not_depend_on_the_blocks(recogniser: Recogniser) -> None:
    samples = recording(6)
    whole = transcribe_long(recogniser, [samples])
    assert len(whole.segments) == 6
    for length in (160, 7_777, 100_000):
        assert transcribe_long(recogniser, blocks(samples, length)) == whole
    assert whole.seconds == pytest.approx(len(samples) / 16_000)


def test_segments_lie_around_what_was_said_and_words_in_their_segments(
    recogniser: Recogniser,
) -> None:
    found = transcribe_long(recogniser, [recording(4)])
    begins = 1.0
    for number, segment in enumerate(found.segments):
        ends = begins + 0.8 + 0.1 * number
        assert begins - 0.4 < segment.start_s <= begins + 0.1
        assert ends - 0.2 < segment.end_s < ends + 0.6
        first, last = segment.transcript.words[0], segment.transcript.words[-1]
        assert segment.start_s <= first.start_s < last.end_s <= segment.end_s + 0.1
        begins = ends + 1.0
    words = [word for segment in found.segments for word in segment.transcript.words]
    assert found.transcript.text == " ".join(word.text for word in words)


def test_a_segment_is_what_the_recogniser_hears_in_it(recogniser: Recogniser) -> None:
    samples = recording(3)
    for segment in transcribe_long(recogniser, [samples]).segments:
        piece = samples[round(segment.start_s * 16_000) : round(segment.end_s * 16_000)]
        assert recogniser.transcribe(piece).text == segment.transcript.text


def test_without_a_pause_it_is_cut_and_nothing_is_left_out(recogniser: Recogniser) -> None:
    samples = voice(70.0, 1)
    found = transcribe_long(recogniser, [samples])
    assert len(found.segments) >= 3
    assert all(one.end_s - one.start_s <= _LONGEST * 0.02 + 0.01 for one in found.segments)
    for before, after in zip(found.segments, found.segments[1:], strict=False):
        assert before.end_s == pytest.approx(after.start_s)


def test_holds_a_bounded_part_of_the_recording_and_tells_how_far_it_is(
    recogniser: Recogniser,
) -> None:
    piece = np.concatenate([voice(1.0, 2), PAUSE])
    alive: list[int] = []
    given = 0

    def endless() -> Iterator[Samples]:
        nonlocal given
        for _ in range(600):  # twenty minutes
            given += len(piece)
            yield piece.copy()

    told: list[float] = []

    def progress(seconds: float) -> None:
        told.append(seconds)
        alive.append(given)

    found = transcribe_long(recogniser, endless(), on_progress=progress)
    assert len(found.segments) == 600
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1200.0)
    assert len(told) > 10


def test_silence_has_no_segments(recogniser: Recogniser) -> None:
    assert transcribe_long(recogniser, [PAUSE, PAUSE]).segments == ()
    assert transcribe_long(recogniser, []).transcript.text == ""
