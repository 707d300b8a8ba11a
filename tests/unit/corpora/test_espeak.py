import time
from dataclasses import replace

import numpy as np
import pytest

from hearloop.corpora.espeak import Voice, speak, speak_all
from hearloop.errors import ConfigurationError

VOICE = Voice(accent="en-us", variant="f2", rate=170, pitch=50, pitch_range=50)


def test_a_sentence_sounds_the_same_whatever_was_said_in_calls_before() -> None:
    first = speak(VOICE, ["hello there"])[0]
    speak(VOICE, ["something else"])
    second = int(time.time())
    while int(time.time()) == second:  # espeak-ng would seed itself by the second
        time.sleep(0.01)
    np.testing.assert_array_equal(first, speak(VOICE, ["hello there"])[0])


def test_voices_sound_the_same_alone_and_after_one_another() -> None:
    other = Voice(accent="en-gb-scotland", variant="m3", rate=140, pitch=35, pitch_range=60)
    tasks = [(VOICE, ["hello there", "good bye"]), (other, ["seven"]), (VOICE, ["hello there"])]

    together = speak_all(tasks)

    assert [len(spoken) for spoken in together] == [2, 1, 1]
    for (voice, sentences), spoken in zip(tasks, together, strict=True):
        for alone, samples in zip(speak(voice, sentences), spoken, strict=True):
            np.testing.assert_array_equal(alone, samples)


def test_samples_are_16_khz_speech() -> None:
    (samples,) = speak(VOICE, ["one two three four five six seven eight nine ten"])
    assert samples.dtype == np.float32
    assert 2.0 < len(samples) / 16_000 < 6.0
    assert 0.01 < np.abs(samples).max() <= 1.1


def test_an_accent_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError, match="en-mars"):
        speak(replace(VOICE, accent="en-mars"), ["hi"])
    with pytest.raises(ConfigurationError, match="en-mars"):
        speak_all([(VOICE, ["hi"]), (replace(VOICE, accent="en-mars"), ["hi"])])
