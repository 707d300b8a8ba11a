"""What an evaluation saw: the evidence that the gate judges and the report shows.

An `Evaluation` holds every reference and every answer, so any figure can be computed again from
it; it travels as JSON between the steps of a pipeline.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from hearloop.errors import InvalidInput, first_mistake
from hearloop.resampling import Bootstrap, block_sums, bootstrap
from hearloop.scoring import Edit, ErrorCounts, ScoredUtterance, class_rank, total

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "ERRORS",
    "GOLDEN",
    "NEW",
    "Evaluation",
    "JudgedModel",
    "JudgedSet",
    "NonSpeechClip",
    "Rate",
    "difference",
    "rate",
    "sliced",
]

CHAMPION, CHALLENGER = "champion", "challenger"

GOLDEN = "golden"
"""The judged set of what the champion learnt from: what must not be forgotten."""

NEW = "new"
"""The judged set of the snapshot that the challenger learnt from: what should get better."""

ERRORS: tuple[Edit, ...] = ("substitution", "insertion", "deletion")


@dataclass(frozen=True, kw_only=True)
class JudgedModel:
    """One model of the evaluation, apart from its words."""

    version: str
    """Registered version, or the digest of the bundle before it is registered."""
    size_bytes: int
    """Of the bundle, which a server downloads whole: both graphs, the weights, the tokens and the
    configuration."""
    real_time_factor: float
    """Median seconds of computing for a second of audio, one utterance at a time, one thread."""
    agreement: float | None = None
    """Share of utterances in which exported and trained model give each character the same
    probability; None: not measured."""


@dataclass(frozen=True, kw_only=True)
class JudgedSet:
    """The utterances of one judged set."""

    snapshots: tuple[str, ...]
    """Digests of the snapshots whose test split it is."""
    utterances: tuple[ScoredUtterance, ...]


@dataclass(frozen=True, kw_only=True)
class NonSpeechClip:
    """A recording without a word, and what each model heard in it."""

    kind: str
    """Such as "silence" or "white noise"."""
    seconds: float
    heard: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Champion and challenger on the same recordings. A first model has no champion beside it."""

    models: Mapping[str, JudgedModel]
    sets: Mapping[str, JudgedSet]
    clips: tuple[NonSpeechClip, ...] = ()

    def to_json(self) -> str:
        """The evaluation as JSON; `from_json` gives an equal evaluation."""
        return _ADAPTER.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Evaluation":
        """Read an evaluation. Raises InvalidInput that names the first wrong field."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise InvalidInput(
                f"The evaluation is {first_mistake(error)}; evaluate again."
            ) from error

    def counts(self, name: str, model: str) -> ErrorCounts:
        """Word errors of a model on a whole set."""
        return total(one.answers[model].words for one in self.sets[name].utterances)

    def wer(self, name: str, model: str) -> float:
        """Word error rate of a model on a set, as a fraction."""
        return self.counts(name, model).rate

    def cer(self, name: str, model: str) -> float:
        """Character error rate of a model on a set, as a fraction."""
        return total(one.answers[model].characters for one in self.sets[name].utterances).rate

    def word_error_rates(self) -> dict[str, dict[str, float]]:
        """WER by set and model, and by kind of corpus where a set has several: `new prompts`."""
        parts = {name: judged.utterances for name, judged in self.sets.items()}
        for name, judged in self.sets.items():
            for (kind, source), utterances in sliced(judged.utterances).items():
                if kind == "source":
                    parts[f"{name} {source}"] = tuple(utterances)
        return {
            part: {
                model: total(one.answers[model].words for one in utterances).rate
                for model in self.models
            }
            for part, utterances in parts.items()
        }

    def invented_words_per_minute(self, model: str) -> float:
        """Words that a model hears in recordings without speech; 0 when there is none."""
        minutes = sum(clip.seconds for clip in self.clips) / 60
        return float(self.words_invented(model).sum()) / minutes if minutes else 0.0

    def words_invented(self, model: str) -> NDArray[np.float64]:
        """Words that a model hears in each recording without speech."""
        return np.array([len(clip.heard[model].split()) for clip in self.clips], np.float64)

    def metrics(self) -> dict[str, float]:
        """The figures to log with a run, as `set.metric.model` and `set.source.wer.model`."""
        found = {
            f"{part.replace(' ', '.')}.wer.{model}": wer
            for part, rates in self.word_error_rates().items()
            for model, wer in rates.items()
        }
        for model, facts in self.models.items():
            for name in self.sets:
                found[f"{name}.cer.{model}"] = self.cer(name, model)
            found[f"invented_words_per_minute.{model}"] = self.invented_words_per_minute(model)
            found[f"real_time_factor.{model}"] = facts.real_time_factor
            found[f"size_bytes.{model}"] = float(facts.size_bytes)
        return found


@dataclass(frozen=True, kw_only=True)
class Rate:
    """An error rate of one model with its two-sided confidence interval, as fractions."""

    value: float
    low: float
    high: float
    utterances: int
    words: int
    blocks: int


def rate(
    utterances: Sequence[ScoredUtterance],
    model: str,
    *,
    confidence: float,
    resamples: int,
    seed: int,
    unit: Literal["words", "characters"] = "words",
) -> Rate:
    """WER or CER of a model with its interval by speakers.

    Raises ValueError without a reference word.
    """
    words = [one.answers[model].words for one in utterances]
    counts = [getattr(one.answers[model], unit) for one in utterances]
    rows = [(count.errors, count.length) for count in counts]
    resampled = _by_block(utterances, rows, resamples, seed)
    tail = (1 - confidence) / 2
    return Rate(
        value=float(resampled.estimate),
        low=max(0.0, float(resampled.bound(tail))),
        high=float(resampled.bound(1 - tail)),
        utterances=len(utterances),
        words=sum(count.length for count in words),
        blocks=resampled.blocks,
    )


def difference(
    utterances: Sequence[ScoredUtterance],
    *,
    edits: Iterable[Edit] = ERRORS,
    resamples: int,
    seed: int,
) -> Bootstrap:
    """Errors per reference word, challenger minus champion, resampled by speakers.

    Both models are compared on the same draws. Raises ValueError without a reference word.
    """
    fields = [f"{edit}s" for edit in edits]
    rows = []
    for one in utterances:
        champion, challenger = one.answers[CHAMPION].words, one.answers[CHALLENGER].words
        change = sum(getattr(challenger, name) - getattr(champion, name) for name in fields)
        rows.append((change, challenger.length))
    return _by_block(utterances, rows, resamples, seed)


def sliced(
    utterances: Iterable[ScoredUtterance],
) -> dict[tuple[str, str], list[ScoredUtterance]]:
    """Utterances by (slice, class), classes in their order; a slice of one class is left out."""
    found: dict[tuple[str, str], list[ScoredUtterance]] = {}
    for one in utterances:
        for name, value in one.slices.items():
            found.setdefault((name, value), []).append(one)
    names = [name for name, _ in found]
    ordered = sorted(found, key=lambda key: (key[0], class_rank(key[1]), key[1]))
    return {key: found[key] for key in ordered if names.count(key[0]) > 1}


def _by_block(
    utterances: Sequence[ScoredUtterance],
    rows: Sequence[tuple[int, int]],
    resamples: int,
    seed: int,
) -> Bootstrap:
    """Resample sum(first) / sum(second) over the blocks of the utterances."""
    if not rows:
        raise ValueError("there is no utterance to resample")
    blocks = [one.block for one in utterances]
    numerators, lengths = block_sums(blocks, np.asarray(rows, float))
    return bootstrap(numerators, lengths, resamples=resamples, seed=seed)


_ADAPTER = TypeAdapter(Evaluation)
