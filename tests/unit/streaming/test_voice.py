import numpy as np
import pytest

from hearloop import nonspeech
from hearloop.features import Samples, log_mel
from hearloop.streaming.voice import FRAME, VoiceActivity, steady
from tests.unit.streaming.conftest import voice

STEADY = ("silence", "white noise", "mains hum", "dial tone")
CHUNK = 2560


def voices(samples: Samples) -> list[float]:
    """Seconds at which a voice was heard, chunk by chunk."""
    activity, found = VoiceActivity(), []
    rows = log_mel(samples)
    for start in range(0, len(samples) - CHUNK, CHUNK):
        piece = samples[start : start + CHUNK]
        last = activity.last_voice(piece, rows[start // 160 : (start + CHUNK) // 160])
        if last is not None:
            found.append((start + last) / 16_000)
    return found


@pytest.mark.parametrize("kind", STEADY)
def test_steady_sounds_are_no_voice_however_loud(kind: str) -> None:
    clips = [clip.samples for clip in nonspeech.clips() if clip.kind == kind]
    # The ends of a clip are edges: a telephone channel fades in and out there.
    heard = [at for samples in clips for at in voices(samples) if 0.6 < at < 4.5]
    assert heard == []


@pytest.mark.parametrize("gain", [1.0, 0.1, 0.03])
def test_hears_a_voice_where_it_is(gain: float) -> None:
    quiet = np.random.default_rng(0).normal(0, 1e-4, 16_000).astype(np.float32)
    found = voices(np.concatenate([quiet, gain * voice(1.5, 2), quiet]))
    assert found
    assert 1.0 < min(found) < 1.4
    assert 2.3 < max(found) < 2.8


def test_a_voice_is_not_steady_and_noise_is() -> None:
    assert not steady(log_mel(voice(1.5, 2)))
    noise = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)
    assert steady(log_mel(noise))
    assert steady(log_mel(np.empty(0, np.float32)))


def test_frames_are_of_twenty_milliseconds() -> None:
    assert len(VoiceActivity().frames(np.zeros(10 * FRAME + 7, np.float32))) == 10
