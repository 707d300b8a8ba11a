"""Speech from espeak-ng, whose library and data come in the wheel `espeakng-loader`."""

import io
import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import espeakng_loader
import numpy as np
import soxr

from hearloop.audio import SAMPLE_RATE, Samples
from hearloop.errors import ConfigurationError

__all__ = ["VARIANTS", "Voice", "speak", "speak_all"]

VARIANTS = tuple(f"m{n}" for n in range(1, 9)) + tuple(f"f{n}" for n in range(1, 6))
"""Male and female variants that espeak-ng can lay over each accent."""

_PROCESS = Path(__file__).with_name("espeak_process.py")
_SECONDS_TO_SPEAK = 60.0
"""espeak-ng speaks hundreds of times faster than real time; a minute means that it hangs."""

_VOICE_FILES = {"en-gb": "en"}
"""Accents whose voice file bears another name; a variant can only be laid over a file's name."""


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One synthetic voice.

    accent: a language of espeak-ng such as `en-gb-scotland`; variant: one of VARIANTS;
    rate: words a minute; pitch and pitch_range: 0 to 99, 50 is the voice's own.
    """

    accent: str
    variant: str
    rate: int
    pitch: int
    pitch_range: int

    @property
    def name(self) -> str:
        """All that distinguishes this voice, as in `en-us+m3-r170-p45-v52`."""
        return f"{self.accent}+{self.variant}-r{self.rate}-p{self.pitch}-v{self.pitch_range}"


def speak(voice: Voice, sentences: Sequence[str]) -> list[Samples]:
    """Speak each sentence; equal arguments give equal samples.

    Returns float32 mono samples (n,) at SAMPLE_RATE. Raises ConfigurationError for a voice that
    espeak-ng does not have.
    """
    return speak_all([(voice, sentences)])[0]


def speak_all(tasks: Sequence[tuple[Voice, Sequence[str]]]) -> list[list[Samples]]:
    """`speak` for several voices: a process has to start only once for all of them."""
    request = {
        "library": espeakng_loader.get_library_path(),
        "data_folder": espeakng_loader.get_data_path(),
        "tasks": [_task(voice, sentences) for voice, sentences in tasks],
    }
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(_PROCESS)],
        input=json.dumps(request).encode(),
        capture_output=True,
        timeout=_SECONDS_TO_SPEAK,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or ["it crashed"]
        names = " or ".join(dict.fromkeys(voice.name for voice, _ in tasks))
        raise ConfigurationError(
            f"espeak-ng cannot speak as {names}: {reason[-1]}; choose an accent and a variant "
            "that espeak-ng has."
        )
    answer = io.BytesIO(done.stdout)
    return [_samples(answer, len(sentences)) for _, sentences in tasks]


def _task(voice: Voice, sentences: Sequence[str]) -> dict[str, object]:
    return {
        "voice": f"{_VOICE_FILES.get(voice.accent, voice.accent)}+{voice.variant}",
        "rate": voice.rate,
        "pitch": voice.pitch,
        "pitch_range": voice.pitch_range,
        "sentences": list(sentences),
    }


def _samples(answer: BinaryIO, count: int) -> list[Samples]:
    (rate,) = struct.unpack("<I", answer.read(4))
    spoken = []
    for _ in range(count):
        (length,) = struct.unpack("<I", answer.read(4))
        pcm = np.frombuffer(answer.read(length), "<i2")
        samples = soxr.resample(pcm.astype(np.float32) / 32768, rate, SAMPLE_RATE)
        spoken.append(samples.astype(np.float32))
    return spoken
