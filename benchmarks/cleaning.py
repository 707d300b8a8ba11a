"""What cleaning does to the WER: `python -m benchmarks.cleaning BUNDLE`.

The bundle, one of `benchmarks.languages` or `benchmarks.prompts` (`--home` keeps them), hears the
human prompts of unseen texts in its language as they are, in noise at 15 and 5 dB, and between
1.5 s of silence on either side; each as it came, with silence trimmed and with noise reduced.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

import numpy as np

from benchmarks.languages import Bench, errors
from hearloop.audio import SAMPLE_RATE, Samples, add_noise
from hearloop.bundle import SERVED
from hearloop.cleaning import reduce_noise, trim_silence
from hearloop.errors import InvalidAudio
from hearloop.recipe import PromptsCorpus, Recipe, TrainingConfig
from hearloop.recogniser import Recogniser

LANGUAGES: Final[tuple[Literal["en", "es", "fr", "it", "ru"], ...]] = ("en", "es", "fr", "it", "ru")
CLEANED: Final[Mapping[str, Callable[[Samples], Samples]]] = {
    "as it came": lambda samples: samples,
    "silence trimmed": lambda samples: _trimmed(samples),
    "noise reduced": reduce_noise,
}


def _trimmed(samples: Samples) -> Samples:
    try:
        return trim_silence(samples)
    except InvalidAudio:
        return samples[:SAMPLE_RATE]  # an ingestion would leave it out; here it has to be judged


def _padded(samples: Samples, rng: np.random.Generator) -> Samples:
    padded = np.pad(samples, round(1.5 * SAMPLE_RATE))
    return (padded + 1e-4 * rng.standard_normal(len(padded))).astype(np.float32)


def main() -> None:
    """Print a line for each kind of recording."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    given = parser.parse_args()
    recogniser, rng = Recogniser.load(given.bundle, SERVED), np.random.default_rng(0)
    language = recogniser.bundle.language.partition("-")[0]
    voice = next(one for one in LANGUAGES if one == language)
    recipe = Recipe(
        name="prompts",
        language=language,
        corpora=(PromptsCorpus(language=voice),),
        training=TrainingConfig(steps=1),
    )
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(Path(home))
        rows = bench.gather(recipe).rows("test")
        recordings = bench.samples(rows)
    heard = {
        "clean": recordings,
        "noise, 15 dB": [add_noise(one, 15.0, rng) for one in recordings],
        "noise, 5 dB": [add_noise(one, 5.0, rng) for one in recordings],
        "between silence": [_padded(one, rng) for one in recordings],
    }
    for kind, samples in heard.items():
        for name, cleaned in CLEANED.items():
            kept = [cleaned(one) for one in samples]
            texts = [one.text for one in recogniser.transcribe_many(kept)]
            share = sum(map(len, kept)) / sum(map(len, samples))
            found = errors(rows, texts).rate
            print(f"{kind:16} {name:16} WER {found:.4f}, {share:.2f} of the audio", flush=True)


if __name__ == "__main__":
    main()
