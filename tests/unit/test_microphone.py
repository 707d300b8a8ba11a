"""What is said where there is no microphone."""

import sys
import threading

import pytest

from hearloop.errors import ConfigurationError
from hearloop.microphone import blocks


def test_without_the_package_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ConfigurationError, match=r"hearloop\[microphone\]"):
        next(blocks(threading.Event()))


def test_without_portaudio_or_a_device_it_says_so() -> None:
    sounddevice = pytest.importorskip("sounddevice", exc_type=ImportError) if portaudio() else None
    if sounddevice and any(one["max_input_channels"] for one in sounddevice.query_devices()):
        pytest.skip("this machine has a microphone")
    with pytest.raises(ConfigurationError, match=r"PortAudio|No microphone can be used"):
        next(blocks(threading.Event()))


def portaudio() -> bool:
    try:
        import sounddevice  # noqa: F401
    except OSError:
        return False
    except ImportError:
        pytest.skip("the package sounddevice is not installed")
    return True
