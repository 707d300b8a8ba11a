"""A made-up evaluation with texts and recordings, for tests of what people look at."""

import numpy as np

from hearloop.audio import encode_flac
from hearloop.scores import (
    CHALLENGER,
    CHAMPION,
    GOLDEN,
    NEW,
    Evaluation,
    JudgedModel,
    JudgedSet,
    NonSpeechClip,
)
from hearloop.scoring import ScoredUtterance, answer, slices

LEXICON = ["play", "call", "my", "mother", "transfer", "twenty", "pounds", "to", "anna", "third"]


def garbled(words: list[str], share: float, generator: np.random.Generator) -> str:
    """Words with some of them replaced, dropped or doubled."""
    heard = []
    for word in words:
        kind = generator.choice(
            ["hit", "replace", "drop", "double"], p=[1 - share, *[share / 3] * 3]
        )
        heard += {"hit": [word], "replace": ["banana"], "drop": [], "double": [word, "uh"]}[kind]
    return " ".join(heard)


def made_up_set(champion: float, challenger: float, accents: tuple[str, ...]) -> JudgedSet:
    generator = np.random.default_rng(len(accents))
    utterances = []
    for speaker in range(40):
        for number in range(6):
            words = list(generator.choice(LEXICON, 7))
            shares = {CHAMPION: champion, CHALLENGER: challenger}
            utterances.append(
                ScoredUtterance(
                    id=f"{accents[0]}-{speaker:02}-{number}",
                    speaker=f"voice {speaker}",
                    call=None,
                    reference=" ".join(words),
                    seconds=float(generator.uniform(1, 6)),
                    audio_uri="s3://audio/1.flac",
                    audio_digest="",
                    slices=slices(
                        accent=accents[speaker % len(accents)],
                        source="synthetic",
                        seconds=float(generator.uniform(1, 6)),
                        snr_db=float(generator.uniform(5, 35)),
                    ),
                    answers={
                        role: answer(" ".join(words), garbled(words, share, generator), 0.87)
                        for role, share in shares.items()
                    },
                )
            )
    return JudgedSet(snapshots=("0123456789abcdef" * 4,), utterances=tuple(utterances))


def made_up() -> Evaluation:
    facts = {"size_bytes": 21_300_000, "real_time_factor": 0.0061}
    return Evaluation(
        models={
            CHAMPION: JudgedModel(version="1", **facts),
            CHALLENGER: JudgedModel(version="2", agreement=1.0, **facts),
        },
        sets={
            GOLDEN: made_up_set(0.04, 0.045, ("en-us", "en-gb", "en-gb-x-rp")),
            NEW: made_up_set(0.6, 0.15, ("en-gb-scotland", "en-029")),
        },
        clips=(
            NonSpeechClip(kind="silence", seconds=5.0, heard={CHAMPION: "", CHALLENGER: ""}),
            NonSpeechClip(kind="dial tone", seconds=60.0, heard={CHAMPION: "oh", CHALLENGER: ""}),
        ),
    )


def tone(utterance: ScoredUtterance) -> bytes:
    times = np.arange(16_000) / 16_000
    return encode_flac((0.1 * np.sin(2 * np.pi * 440 * times)).astype(np.float32))
