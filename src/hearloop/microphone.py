"""The microphone of this machine, by PortAudio: `pip install 'hearloop[microphone]'`."""

import queue
import threading
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from hearloop.errors import ConfigurationError
from hearloop.features import SAMPLE_RATE, Samples

__all__ = ["blocks"]

BLOCK: Final = SAMPLE_RATE // 20
"""Samples of 50 ms: a third of a step of the recogniser."""

POLL_SECONDS: Final = 0.1
"""How soon a stop is noticed while the microphone gives nothing."""


def blocks(stop: threading.Event) -> Iterator[Samples]:
    """What the default microphone hears, (800,) samples at a time, until `stop` is set.

    Raises ConfigurationError where there is no PortAudio or no microphone.
    """
    sounddevice = _sounddevice()
    heard: queue.SimpleQueue[Samples] = queue.SimpleQueue()

    def take(block: Any, *_: object) -> None:
        heard.put(np.array(block[:, 0], dtype=np.float32))

    try:
        with sounddevice.InputStream(
            samplerate=SAMPLE_RATE, blocksize=BLOCK, channels=1, dtype="float32", callback=take
        ):
            while not stop.is_set():
                try:
                    yield heard.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
    except (sounddevice.PortAudioError, ValueError) as error:
        raise ConfigurationError(
            f"No microphone can be used: {error}; connect one, or transcribe a recording."
        ) from error


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise ConfigurationError(
            "The microphone needs the package sounddevice; run pip install 'hearloop[microphone]'."
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"The microphone needs PortAudio: {error}; on Debian or Ubuntu run apt-get install "
            "libportaudio2."
        ) from error
    return sounddevice
