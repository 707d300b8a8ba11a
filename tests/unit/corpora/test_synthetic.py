import io
from itertools import combinations

import numpy as np
import pytest
import soundfile

from hearloop.corpora import synthetic
from hearloop.corpora.espeak import Voice, speak
from hearloop.errors import ConfigurationError
from hearloop.recipe import PerSplit, Split, SyntheticCorpus

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


def _corpus(seed: int = 7, speakers: int = 2, **kwargs: object) -> SyntheticCorpus:
    return SyntheticCorpus(
        seed=seed,
        speakers=PerSplit(train=speakers, dev=speakers, test=speakers),
        utterances_per_speaker=PerSplit(train=2, dev=1, test=1),
        **kwargs,  # type: ignore[arg-type]
    )


def test_equal_corpora_sound_equal() -> None:
    first, second = (list(synthetic.utterances(_corpus())) for _ in range(2))
    assert [u.audio for u in first] == [u.audio for u in second]
    assert first == second


def test_more_calls_only_add_calls() -> None:
    few = list(synthetic.calls(_corpus(), "test", 1, 2))
    more = list(synthetic.calls(_corpus(), "test", 2, 2))
    assert few[0].call == more[0].call
    for (text, samples), (again, same) in zip(few[0].utterances, more[0].utterances, strict=True):
        assert text == again
        np.testing.assert_array_equal(samples, same)


def test_speakers_call_again_when_there_are_more_calls_than_speakers() -> None:
    found = list(synthetic.calls(_corpus(), "test", 3, 1))
    assert len({call.call for call in found}) == 3
    assert found[0].speaker == found[2].speaker != found[1].speaker
    assert found[0].utterances[0][0] != found[2].utterances[0][0]


def test_a_split_without_speakers_makes_no_calls() -> None:
    with pytest.raises(ConfigurationError, match=r"speakers\.dev"):
        next(synthetic.calls(_corpus(speakers=0), "dev", 1, 1))


def test_no_voice_is_in_two_splits_whatever_the_seed() -> None:
    voices = {
        split: {
            speaker.voice.name
            for seed in (1, 2, 3)
            for speaker in synthetic.speakers(_corpus(seed, speakers=60), split)
        }
        for split in SPLITS
    }
    for one, other in combinations(SPLITS, 2):
        assert not voices[one] & voices[other]


def test_speakers_of_a_split_are_distinct_and_accents_take_turns() -> None:
    corpus = _corpus(accents=("en-029", "en-gb"), speakers=50)
    found = synthetic.speakers(corpus, "test")
    assert len({speaker.voice.name for speaker in found}) == 50
    assert [speaker.voice.accent for speaker in found[:4]] == ["en-029", "en-gb"] * 2
    assert all(15 <= speaker.snr_db <= 35 for speaker in found)


def test_no_sentence_is_in_two_splits_whatever_the_seed() -> None:
    said: dict[Split, set[str]] = {
        split: {
            text
            for seed in (1, 2)
            for script in synthetic._scripts(_corpus(seed), split, 30, 20)
            for text in script.sentences
        }
        for split in SPLITS
    }
    for one, other in combinations(SPLITS, 2):
        assert not said[one] & said[other]


def test_what_callers_are_names_their_calls() -> None:
    changed = _corpus(new_products=True, telephone=True)
    names = {next(synthetic.utterances(corpus)).call for corpus in (_corpus(), changed)}
    assert len(names) == 2


def test_utterances_have_the_length_and_format_of_speech() -> None:
    for utterance in synthetic.utterances(_corpus()):
        info = soundfile.info(io.BytesIO(utterance.audio))
        assert (info.samplerate, info.channels, info.format) == (16_000, 1, "FLAC")
        assert 1.0 < info.duration < 8.0
        assert utterance.recorded_at.tzinfo is not None


def test_a_telephone_call_has_no_sound_above_its_band() -> None:
    call = next(synthetic.calls(_corpus(telephone=True), "train", 1, 1))
    samples = call.utterances[0][1]
    power = np.abs(np.fft.rfft(samples)) ** 2
    above = np.fft.rfftfreq(len(samples), 1 / 16_000) > 4_200
    assert power[above].sum() < 1e-4 * power.sum()


@pytest.mark.parametrize("accent", ["en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd"])
def test_new_accents_sound_unlike_the_known_one(accent: str) -> None:
    voice = Voice(accent="en-gb", variant="m1", rate=170, pitch=50, pitch_range=50)
    other = Voice(accent=accent, variant="m1", rate=170, pitch=50, pitch_range=50)
    sentences = ["my account number is nine four one"]
    assert speak(voice, sentences)[0].shape != speak(other, sentences)[0].shape
