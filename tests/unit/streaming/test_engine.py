import queue
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hearloop.errors import InvalidAudio, InvalidInput, Overloaded, ServiceUnavailable
from hearloop.features import Samples
from hearloop.graph import Graph
from hearloop.recogniser import Recogniser
from hearloop.streaming import (
    Ended,
    Endpointing,
    Engine,
    Event,
    Final,
    Heard,
    Hotword,
    LiveStream,
    Partial,
    SpeechStarted,
    StreamOptions,
)
from tests.unit.streaming.conftest import voice

MANUAL = StreamOptions(endpointing=None)
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def engine(recogniser: Recogniser) -> Iterator[Engine]:
    engine = Engine(recogniser, most_streams=40)
    yield engine
    engine.close(0.0)


class Caller:
    """Opens a stream and keeps what it is told."""

    def __init__(self, engine: Engine, options: StreamOptions = MANUAL) -> None:
        self._told: queue.Queue[Event] = queue.Queue()
        self.events: list[Event] = []
        self.stream: LiveStream = engine.open(self._told.put, options=options)

    def until(self, kind: type[Event]) -> Event:
        while True:
            self.events.append(self._told.get(timeout=PATIENCE_S))
            if isinstance(self.events[-1], kind):
                return self.events[-1]

    def finals(self) -> list[Final]:
        """All finals, once the stream has ended."""
        self.until(Ended)
        return [event for event in self.events if isinstance(event, Final)]


def cut(samples: Samples, pieces: Sequence[int]) -> list[Samples]:
    return np.split(samples, np.cumsum(list(pieces)))


@settings(
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 40_000), st.lists(st.integers(0, 6000), max_size=12), st.integers(0, 3))
def test_a_stream_gives_the_transcript_of_the_whole_however_it_is_cut(
    engine: Engine, recogniser: Recogniser, length: int, pieces: list[int], seed: int
) -> None:
    samples = voice(2.5, seed)[:length]
    caller = Caller(engine)
    for piece in cut(samples, pieces):
        caller.stream.accept(piece)
    caller.stream.finish()
    texts = [final.transcript.text for final in caller.finals()]
    assert texts == ([recogniser.transcribe(samples).text] if length else [])


def test_many_streams_at_once_get_what_each_would_get_alone(
    engine: Engine, recogniser: Recogniser
) -> None:
    recordings = [voice(0.5 + 0.1 * seed, seed) for seed in range(24)]
    expected = [recogniser.transcribe(samples) for samples in recordings]
    callers = [Caller(engine) for _ in recordings]

    def speak(number: int) -> None:
        generator = np.random.default_rng(number)
        pieces = generator.integers(1, 4000, size=40)
        for piece in cut(recordings[number], list(pieces)):
            callers[number].stream.accept(piece)
        callers[number].stream.finish()

    threads = [threading.Thread(target=speak, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for caller, transcript in zip(callers, expected, strict=True):
        (final,) = caller.finals()
        assert final.transcript.text == transcript.text
        times = [(word.start_s, word.end_s) for word in final.transcript.words]
        assert times == [(word.start_s, word.end_s) for word in transcript.words]
    assert len({transcript.text for transcript in expected}) > 10


def test_each_commit_begins_a_recording_of_its_own(engine: Engine, recogniser: Recogniser) -> None:
    parts = [voice(seconds, 5) for seconds in (0.7, 1.13, 0.4)]
    caller = Caller(engine)
    for part in parts:
        caller.stream.accept(part)
        caller.stream.commit()
    caller.stream.commit()
    caller.stream.finish()
    finals = caller.finals()
    assert [final.utterance for final in finals] == [0, 1, 2, 3]
    expected = [recogniser.transcribe(part).text for part in parts]
    assert [final.transcript.text for final in finals] == [*expected, ""]
    starts = np.cumsum([0.0, *(len(part) / 16_000 for part in parts)])
    np.testing.assert_allclose([final.start_s for final in finals[:3]], starts[:3], atol=0.02)
    for final in finals[:3]:
        assert all(word.start_s >= final.start_s for word in final.transcript.words)


def test_partials_grow_into_the_final_and_say_how_far_they_have_heard(engine: Engine) -> None:
    caller = Caller(engine)
    samples = voice(2.0, 7)
    for piece in cut(samples, [1600] * 19):
        caller.stream.accept(piece)
    caller.stream.finish()
    (final,) = caller.finals()
    partials = [event for event in caller.events if isinstance(event, Partial)]
    assert len(partials) > 3
    assert partials[-1].text == final.transcript.text
    assert all(later.text.startswith(p.text) for p, later in pairwise(partials))
    assert [p.heard_s for p in partials] == sorted(p.heard_s for p in partials)
    assert final.revised_words == 0
    heard = [event.heard_s for event in caller.events if isinstance(event, Heard)]
    assert heard == sorted(set(heard))
    assert heard[-1] == pytest.approx(2.0)


def test_silence_and_noise_give_nothing_at_all(engine: Engine) -> None:
    noise = np.random.default_rng(0).normal(0, 0.003, 32_000).astype(np.float32)
    caller = Caller(engine, StreamOptions())
    caller.stream.accept(np.zeros(48_000, np.float32))
    caller.stream.accept(noise)
    caller.stream.finish()
    assert caller.finals() == []
    assert {type(event) for event in caller.events} == {Heard, Ended}


def test_finds_utterances_and_no_word_is_lost_between_them(
    engine: Engine, recogniser: Recogniser
) -> None:
    pause = np.zeros(24_000, np.float32)
    said = [voice(1.2, 11), voice(1.7, 12), voice(0.9, 13)]
    samples = np.concatenate([pause, *(part for one in said for part in (one, pause))])
    found = []
    for pieces in ([], [700] * 150):
        caller = Caller(engine, StreamOptions())
        for piece in cut(samples, pieces):
            caller.stream.accept(piece)
        caller.stream.finish()
        found.append(caller.finals())
        begun = [event.at_s for event in caller.events if isinstance(event, SpeechStarted)]
        assert len(begun) == len(found[-1])
    assert found[0] == found[1]
    assert len(found[0]) >= 3
    starts = np.cumsum([1.5, 1.2 + 1.5, 1.7 + 1.5])
    for start in starts:
        assert any(final.start_s <= start <= final.end_s for final in found[0])


def test_an_endless_utterance_is_cut_between_words(engine: Engine) -> None:
    options = StreamOptions(endpointing=Endpointing(longest_s=1.0))
    caller = Caller(engine, options)
    samples = voice(16.0, 3)
    caller.stream.accept(samples)
    caller.stream.finish()
    finals = caller.finals()
    assert len(finals) >= 2
    assert all(final.transcript.words for final in finals)


def test_hotwords_are_searched_for_with_the_same_result_live_and_whole(
    engine: Engine, recogniser: Recogniser
) -> None:
    hotwords = (Hotword(phrase="aba", boost=20.0),)
    samples = voice(2.0, 21)
    expected = recogniser.transcribe(samples, hotwords=hotwords)
    caller = Caller(engine, StreamOptions(endpointing=None, hotwords=hotwords))
    for piece in cut(samples, [999] * 30):
        caller.stream.accept(piece)
    caller.stream.finish()
    (final,) = caller.finals()
    assert final.transcript.text == expected.text
    assert final.transcript.text != recogniser.transcribe(samples).text


def test_refuses_hotwords_that_it_cannot_write_and_frees_the_place(engine: Engine) -> None:
    before = engine.live
    with pytest.raises(InvalidInput):
        Caller(engine, StreamOptions(hotwords=(Hotword(phrase=""),)))
    assert engine.live == before


def test_refuses_more_streams_than_it_has_places_for(recogniser: Recogniser) -> None:
    engine = Engine(recogniser, most_streams=2)
    callers = [Caller(engine), Caller(engine)]
    with pytest.raises(Overloaded, match="2 live streams") as refused:
        Caller(engine)
    assert refused.value.retry_after_s > 0
    callers[0].stream.finish()
    callers[0].until(Ended)
    callers[1].stream.close()
    again = Caller(engine)
    again.stream.accept(voice(0.3))
    engine.close(0.0)
    assert len(again.finals()) == 1
    with pytest.raises(ServiceUnavailable):
        Caller(engine)


def test_a_place_that_was_used_before_begins_with_zero_states(recogniser: Recogniser) -> None:
    engine = Engine(recogniser, most_streams=1)
    samples = voice(0.8, 31)
    texts = []
    for _ in range(3):
        caller = Caller(engine)
        caller.stream.accept(samples)
        caller.stream.finish()
        texts += [final.transcript.text for final in caller.finals()]
        assert engine.live in (0, 1)
    assert texts == [recogniser.transcribe(samples).text] * 3
    engine.close(1.0)


def test_a_place_is_given_up_once_however_often_its_stream_is_closed(
    recogniser: Recogniser,
) -> None:
    engine = Engine(recogniser, most_streams=2)
    first = Caller(engine)
    first.stream.accept(voice(0.3))
    first.stream.finish()
    first.until(Ended)
    other = Caller(engine)
    for stream in (first.stream, first.stream, other.stream, other.stream):
        stream.close()
    deadline = time.monotonic() + PATIENCE_S
    while engine.live and time.monotonic() < deadline:
        time.sleep(0.001)
    recordings = [voice(0.8, 41), voice(0.8, 42)]
    callers = [Caller(engine) for _ in recordings]
    with pytest.raises(Overloaded):
        Caller(engine)
    for caller, samples in zip(callers, recordings, strict=True):
        caller.stream.accept(samples)
        caller.stream.finish()
    found = [final.transcript.text for caller in callers for final in caller.finals()]
    assert found == [recogniser.transcribe(samples).text for samples in recordings]
    engine.close(0.0)


def test_samples_that_are_no_audio_are_refused_and_hurt_nobody(engine: Engine) -> None:
    caller = Caller(engine)
    for wrong in (np.full(100, np.nan, np.float32), np.zeros((2, 100), np.float32)):
        with pytest.raises(InvalidAudio):
            caller.stream.accept(wrong)
    caller.stream.accept(voice(0.3))
    caller.stream.finish()
    assert len(caller.finals()) == 1


def test_a_listener_that_fails_loses_only_its_own_stream(engine: Engine) -> None:
    def failing(event: Event) -> None:
        raise RuntimeError("the connection is gone")

    other = Caller(engine)
    stream = engine.open(failing, options=MANUAL)
    for live in (stream, other.stream):
        live.accept(voice(0.5))
        live.finish()
    assert len(other.finals()) == 1


def test_a_failing_graph_ends_the_streams_of_the_step_with_a_reason(
    recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(recogniser, most_streams=2)
    caller = Caller(engine)

    def fail(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(Graph, "run", fail)
        caller.stream.accept(voice(0.5))
        ended = caller.until(Ended)
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, ServiceUnavailable)
    after = Caller(engine)
    after.stream.accept(voice(0.5))
    after.stream.finish()
    assert len(after.finals()) == 1
    engine.close(1.0)
