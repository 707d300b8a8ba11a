import time

import numpy as np
import pytest

from hearloop.corpora.espeak import Voice, speak
from hearloop.errors import ConfigurationError

VOICE = Voice(accent="en-us", variant="f2", rate=170, pitch=50, pitch_range=50)


def test_a_sentence_sounds_the_same_whatever_was_said_in_calls_before() -> None:
    first = speak(VOICE, ["hello there"])[0]
    speak(VOICE, ["something else"])
    second = int(time.time())
    while int(time.time()) == second:  # espeak-ng would seed itself by the second
        time.sleep(0.01)
    np.testing.assert_array_equal(first, speak(VOICE, ["hello there"])[0])


def test_samples_are_16_khz_speech() -> None:
    (samples,) = speak(VOICE, ["one two three four five six seven eight nine ten"])
    assert samples.dtype == np.float32
    assert 2.0 < len(samples) / 16_000 < 6.0
    assert 0.01 < np.abs(samples).max() <= 1.1


def test_an_accent_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError, match="en-mars"):
        speak(Voice(accent="en-mars", variant="m1", rate=170, pitch=50, pitch_range=50), ["hi"])
