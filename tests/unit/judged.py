"""Evaluations made up from error counts, for tests of what reads them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

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
from hearloop.scoring import Answer, ErrorCounts, ScoredUtterance

WORDS = 10
"""Reference words in each utterance."""

ACCENTS = ("en-us", "en-gb", "en-gb-x-rp")


def judged_set(
    champion: np.ndarray, challenger: np.ndarray, slices: Mapping[str, Any] | None = None
) -> JudgedSet:
    """Substitutions in each utterance, (speakers, utterances), one array a model."""
    utterances = []
    for speaker, utterance in np.ndindex(champion.shape):
        errors = {CHAMPION: champion, CHALLENGER: challenger}
        utterances.append(
            ScoredUtterance(
                id=f"{speaker}-{utterance}",
                speaker=f"s{speaker}",
                call=None,
                reference=" ".join(["word"] * WORDS),
                seconds=3.0,
                audio_uri=f"s3://audio/{speaker}-{utterance}.flac",
                audio_digest="",
                slices={"accent": ACCENTS[speaker % 3]} if slices is None else slices,
                answers={
                    model: Answer(
                        text="",
                        confidence=0.9,
                        words=_counts(int(found[speaker, utterance])),
                        characters=_counts(int(found[speaker, utterance])),
                    )
                    for model, found in errors.items()
                },
            )
        )
    return JudgedSet(snapshots=("digest",), utterances=tuple(utterances))


def evaluation(golden: JudgedSet, new: JudgedSet, **changes: Any) -> Evaluation:
    """Two models that differ in nothing but their words, unless `changes` says so."""
    facts = {"size_bytes": 20_000_000, "real_time_factor": 0.005, "agreement": 1.0}
    heard = changes.pop("heard", {CHAMPION: "", CHALLENGER: ""})
    models = {
        CHAMPION: JudgedModel(version="1", **facts),
        CHALLENGER: JudgedModel(version="2", **(facts | changes)),
    }
    clips = tuple(NonSpeechClip(kind="silence", seconds=5.0, heard=heard) for _ in range(12))
    return Evaluation(models=models, sets={GOLDEN: golden, NEW: new}, clips=clips)


def errors(rate: float, *, speakers: int = 40, utterances: int = 40, seed: int = 0) -> np.ndarray:
    """Errors in each utterance of `WORDS` words, (speakers, utterances)."""
    return np.random.default_rng(seed).binomial(WORDS, rate, (speakers, utterances))


def forgetting(champion: np.ndarray, rise: float, seed: int = 9) -> np.ndarray:
    """The champion's errors and, for a share `rise` of the words, one more."""
    generator = np.random.default_rng(seed)
    return np.minimum(champion + generator.binomial(WORDS, rise, champion.shape), WORDS)


def _counts(errors_made: int) -> ErrorCounts:
    return ErrorCounts(hits=WORDS - errors_made, substitutions=errors_made)
