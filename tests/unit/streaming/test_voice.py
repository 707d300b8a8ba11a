import numpy as np
import pytest

from hearloop import nonspeech
from hearloop.features import Samples, log_mel
from hearloop.streaming.voice import FRAME, VoiceActivity, speechless
from tests.unit.streaming.conftest import voice

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


CLIPS = list(nonspeech.clips())


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.kind)
def test_what_a_line_carries_while_nobody_speaks_is_no_voice(clip: nonspeech.Clip) -> None:
    assert voices(clip.samples) == []
    assert speechless(log_mel(clip.samples))


@pytest.mark.parametrize("gain", [1.0, 0.1, 0.03])
def test_hears_a_voice_where_it_is(gain: float) -> None:
    quiet = np.random.default_rng(0).normal(0, 1e-4, 16_000).astype(np.float32)
    found = voices(np.concatenate([quiet, gain * voice(1.5, 2), quiet]))
    assert found
    assert 1.0 < min(found) < 1.4
    assert 2.3 < max(found) < 2.8


def test_a_voice_is_speech_and_noise_is_not() -> None:
    assert not speechless(log_mel(voice(1.5, 2)))
    assert not speechless(log_mel(np.concatenate([CLIPS[-1].samples, voice(0.4, 2)])))
    noise = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)
    assert speechless(log_mel(noise))
    assert speechless(log_mel(np.empty(0, np.float32)))


def test_frames_are_of_twenty_milliseconds() -> None:
    assert len(VoiceActivity().frames(np.zeros(10 * FRAME + 7, np.float32))) == 10
