"""How good and how fast the live recogniser is: `python -m benchmarks.streaming`.

The recogniser is that of `benchmarks.trained`; speech is its recipe's, of speakers whom training
did not hear.
"""

import argparse
import queue
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from benchmarks.hotwords import OTHERS, PRODUCT_NAMES, spoken
from benchmarks.results import record
from benchmarks.trained import add_bundle, bundle
from hearloop import decoding
from hearloop.bundle import GRAPHS, Precision
from hearloop.corpora.synthetic import calls
from hearloop.features import (
    FLOOR,
    MEL_BINS,
    SAMPLE_RATE,
    WINDOW,
    Samples,
    cut,
    log_mel,
    log_mel_windows,
)
from hearloop.graph import INT8_FRAMES
from hearloop.hotwords import Hotword
from hearloop.recogniser import Recogniser
from hearloop.scoring import count_words, total
from hearloop.streaming import Ended, Engine, StreamOptions, transcribe_long
from hearloop.streaming.chunks import CHUNK_FRAMES, covered
from pipelines.recipes import CALLERS

BATCHES = (1, 8, 32)
STREAMS = 32
STREAM_SECONDS = 20
CALLS, UTTERANCES = 96, 8
"""Speech for word error rates: about 7,600 words of 48 speakers."""
SENTENCES = 4
"""For each of the fifty products."""
LONG_SECONDS = 3600
ROUNDS = 9
"""Times are taken alternately and the best kept: other work on the machine disturbs some."""

COMMAND: Final = "python -m benchmarks.streaming"

Utterance = tuple[str, Samples]
Figure = tuple[str, float, str]
"""Name, value, unit."""


def main() -> None:
    """Measure, and record the figures."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    add_bundle(parser)
    for name, value, unit in figures(bundle(parser.parse_args().bundle)):
        record("serving", name, value, unit, COMMAND)


def figures(bundle: Path) -> Iterator[Figure]:
    """Every figure of the library's part."""
    said = [one for call in calls(CALLERS, "test", CALLS, UTTERANCES) for one in call.utterances]
    recogniser = Recogniser.load(bundle, "int8")
    yield from batching(recogniser, [samples for _, samples in said])
    yield from hotwords(recogniser, said)
    yield from int8_loss(bundle, said)
    yield from long_file(recogniser, [samples for _, samples in said])


# Batching.


def batching(recogniser: Recogniser, speech: Sequence[Samples]) -> Iterator[Figure]:
    """Throughput of the engine over that of lock-step loops at the same batch, a thread each.

    In seconds of that thread's core, so that other work on the machine is left out. `loop` hears
    what the engine hears: audio to the best ids; `graph` is given its features.
    """
    length = STREAM_SECONDS * SAMPLE_RATE
    ring = np.concatenate(speech)
    streams = [np.roll(ring, -number * length)[:length] for number in range(STREAMS)]
    took: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, run in (("engine", _engine), ("loop", _lock_step), ("graph", _graph_alone)):
            began = time.process_time()
            run(recogniser, streams)
            took[name] = min(took.get(name, np.inf), time.process_time() - began)
    steps = STREAMS * STREAM_SECONDS * SAMPLE_RATE / (INT8_FRAMES * 160)
    yield "batching_efficiency", took["loop"] / took["engine"], "ratio"
    yield "batching_efficiency_over_graph_alone", took["graph"] / took["engine"], "ratio"
    yield "cpu_per_step", 1000 * took["engine"] / steps, "ms"


def _engine(recogniser: Recogniser, streams: Sequence[Samples]) -> None:
    """Everything: features, graph, words, partial results; the streams out of step."""
    engine = Engine(recogniser, most_streams=len(streams))
    ended: queue.Queue[Ended] = queue.Queue()

    def listen(event: object) -> None:
        if isinstance(event, Ended):
            ended.put(event)

    live = [engine.open(listen, options=StreamOptions(endpointing=None)) for _ in streams]
    for stream, samples in zip(live, streams, strict=True):
        stream.accept(samples)
        stream.finish()
    for _ in live:
        assert ended.get(timeout=300).error is None
    engine.close(0.0)


def _lock_step(recogniser: Recogniser, streams: Sequence[Samples]) -> None:
    """Features and graph for equally long streams, always all of them together."""
    audio, states = np.stack(streams), recogniser.graph.initial_states(len(streams))
    hop = INT8_FRAMES * 160
    span = covered(CHUNK_FRAMES)
    for start in range(0, audio.shape[1] - span, hop):
        windows = cut(audio[:, start : start + span]).reshape(-1, WINDOW)
        x = log_mel_windows(windows).reshape(len(streams), INT8_FRAMES, -1)
        log_probs, states = recogniser.graph.run(x, states)
        log_probs.argmax(axis=2)


def _graph_alone(recogniser: Recogniser, streams: Sequence[Samples]) -> None:
    """The graph without the features that it needs."""
    x = np.stack([log_mel(samples[:SAMPLE_RATE])[:INT8_FRAMES] for samples in streams])
    states = recogniser.graph.initial_states(len(streams))
    for _ in range(len(streams[0]) // (INT8_FRAMES * 160)):
        _, states = recogniser.graph.run(x, states)


# Words.


def word_error_rate(said: Sequence[Utterance], heard: Sequence[str]) -> float:
    """Errors over words of the references."""
    pairs = zip(said, heard, strict=True)
    return total(count_words(text, found) for (text, _), found in pairs).rate


def texts(recogniser: Recogniser, speech: Sequence[Samples], *names: str) -> list[str]:
    """What is heard, with some names as hotwords."""
    hotwords = [Hotword(phrase=name) for name in names]
    return [one.text for one in recogniser.transcribe_many(speech, hotwords=hotwords)]


def hotwords(recogniser: Recogniser, said: Sequence[Utterance]) -> Iterator[Figure]:
    """What hotwords gain where they are said, and cost where they are not."""
    asked = list(spoken(CALLERS, SENTENCES))
    speech = [samples for *_, samples in asked]

    def recall(heard: Sequence[str]) -> float:
        pairs = zip(asked, heard, strict=True)
        return float(np.mean([f" {name} " in f" {text} " for (name, *_), text in pairs]))

    expected = recall(texts(recogniser, speech, *PRODUCT_NAMES))
    yield "hotword_recall", expected, "share of sentences"
    gain = expected - recall(texts(recogniser, speech))
    yield "hotword_recall_gain", gain, "share of sentences"
    others = [samples for _, samples in said]
    cost = word_error_rate(said, texts(recogniser, others, *PRODUCT_NAMES, *OTHERS))
    cost -= word_error_rate(said, texts(recogniser, others))
    yield "hotword_wer_cost", cost, "absolute WER"


def int8_loss(bundle: Path, said: Sequence[Utterance]) -> Iterator[Figure]:
    """WER of the int8 file less that of the fp32 file, the worst of several batch sizes."""
    rates: dict[Precision, list[float]] = {
        precision: [_batched(Recogniser.load(bundle, precision), said, size) for size in BATCHES]
        for precision in GRAPHS
    }
    yield "fp32_wer", max(rates["fp32"]), "WER"
    losses = [a - b for a, b in zip(rates["int8"], rates["fp32"], strict=True)]
    yield "int8_wer_loss", max(losses), "absolute WER"
    yield "int8_wer_spread", max(losses) - min(losses), "absolute WER"


def _batched(recogniser: Recogniser, said: Sequence[Utterance], size: int) -> float:
    """WER with `size` recordings together in each step of the graph."""
    by_length = sorted(said, key=lambda utterance: len(utterance[1]))
    heard: list[str] = []
    for start in range(0, len(by_length), size):
        features = [log_mel(samples) for _, samples in by_length[start : start + size]]
        architecture = recogniser.bundle.architecture
        frames = architecture.padded_frames(max(map(len, features)))
        x = np.full((len(features), frames, MEL_BINS), FLOOR, np.float32)
        for row, matrix in zip(x, features, strict=True):
            row[: len(matrix)] = matrix
        answers = recogniser.graph.run_whole(x)
        for answer, matrix in zip(answers, features, strict=True):
            kept = answer[architecture.outputs(len(matrix))]
            heard.append(decoding.transcribe(kept, recogniser.tokenizer).text)
    return word_error_rate(by_length, heard)


# An hour.


def long_file(recogniser: Recogniser, speech: Sequence[Samples]) -> Iterator[Figure]:
    """Speed and memory of an hour-long recording that is read in blocks of ten seconds."""
    ring = np.concatenate(speech)
    block = 10 * SAMPLE_RATE
    process, resident = psutil.Process(), []

    def blocks() -> Iterator[Samples]:
        for number in range(LONG_SECONDS // 10):
            start = number * block % (len(ring) - block)
            yield ring[start : start + block]

    before = process.memory_info().rss
    began = time.perf_counter()
    found = transcribe_long(
        recogniser, blocks(), on_progress=lambda _: resident.append(process.memory_info().rss)
    )
    speed = found.seconds / (time.perf_counter() - began)
    grown = max(resident) - before
    yield "hour_file_speed", speed, "audio seconds a second"
    yield "hour_memory", grown / 2**20, "MiB more than before"
    yield "hour_words", len(found.transcript.words), "words"


if __name__ == "__main__":
    main()
