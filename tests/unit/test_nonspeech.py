import numpy as np

from hearloop.audio import SAMPLE_RATE
from hearloop.nonspeech import SECONDS, clips


def test_the_clips_are_always_the_same_and_valid_audio() -> None:
    first, again = list(clips()), list(clips())
    assert all(
        np.array_equal(one.samples, other.samples) for one, other in zip(first, again, strict=True)
    )
    for clip in first:
        assert clip.samples.dtype == np.float32
        assert clip.samples.shape == (int(SECONDS * SAMPLE_RATE),)
        assert np.all(np.abs(clip.samples) <= 1.0)


def test_each_kind_comes_from_faint_to_loud() -> None:
    loudness: dict[str, list[float]] = {}
    for clip in clips():
        loudness.setdefault(clip.kind, []).append(float(np.sqrt(np.mean(clip.samples**2))))
    assert loudness.pop("silence") == [0.0]
    for levels in loudness.values():
        assert len(levels) == 4
        assert levels[0] < levels[2]
        assert levels[1] < levels[3]
