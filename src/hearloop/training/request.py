"""What is asked of a training and what it answers; travels as JSON between processes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter

from hearloop.recipe import TrainingConfig

__all__ = [
    "CHECKPOINTS_KEPT",
    "FAILURE",
    "SUMMARY",
    "Candidate",
    "FeatureSet",
    "StagedTraining",
    "TrainingRequest",
    "TrainingSummary",
]

SUMMARY: Final = "summary.json"
"""What a training that is over leaves in its folder: a `TrainingSummary`."""
FAILURE: Final = "failure.json"
"""What one that failed leaves there: the `kind` of its error and the `message`."""

CHECKPOINTS_KEPT: Final = 2
"""Newest checkpoints that are kept: the second is there if the first turns out damaged."""

Role = Literal["new", "replay"]


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """A feature archive and what it is for."""

    role: Role
    """`new` speech is learnt from in full, `replay` reminds of what the base model knows."""
    archive: str
    """URI of the archive's manifest (`hearloop.feature_archive.extract`)."""


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """All that determines the trained model, and where its curves go."""

    config: TrainingConfig
    sets: tuple[FeatureSet, ...]
    base: str | None = None
    """Digest of the bundle to start from."""
    run_id: str | None = None
    """MLflow run for the curves."""
    language: str = "en"
    """Tag of the language of all texts."""

    @property
    def digest(self) -> str:
        """SHA-256 of what determines the model: the same digest, the same weights."""
        decisive = (self.config, self.sets, self.base, self.language)
        return hashlib.sha256(TypeAdapter(tuple).dump_json(decisive)).hexdigest()

    def to_json(self) -> str:
        """The request as JSON."""
        return _REQUEST.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "TrainingRequest":
        """Read what `to_json` wrote."""
        return _REQUEST.validate_json(text)


@dataclass(frozen=True, kw_only=True)
class StagedTraining:
    """A request whose data lie on this machine: what the workers read."""

    request: TrainingRequest
    shards: tuple[tuple[Path, ...], ...]
    """Local shards of each of the request's sets; none of those that are streamed."""
    base: Path | None
    """Local bundle to start from."""
    work: Path
    """Checkpoints, curves and the summary; kept until the training is over."""
    output: Path
    """Directory of the bundle to write."""
    pretrained: Path | None = None
    """Local copy of pretrained weights that are in object storage."""

    def to_json(self) -> str:
        """The training as JSON."""
        return _STAGED.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "StagedTraining":
        """Read what `to_json` wrote."""
        return _STAGED.validate_json(text)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Weights averaged with the base's, as judged on the development sets."""

    share: float
    """Share of the new weights; 0 is the base model itself."""
    new_wer: float
    """WER on the new speech."""
    old_wer: float | None
    """WER on what the base model knew; None without replayed sets."""
    learning_rate: float | None = None
    """Peak rate that the new weights were trained with; None of the base."""


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """What a training did. Word error rates are fractions, on development sets."""

    steps: int
    seconds: float
    """Wall time in the workers, those before a resume included as far as it was saved."""
    audio_seconds_per_second: float
    """Audio learnt from in a second of this process, development sets apart."""
    dev_wer: float
    """Of the weights that were exported, on the new speech."""
    share: float
    """Share of the new weights in the exported ones."""
    learning_rate: float | None = None
    """Peak rate that the exported weights were trained with."""
    candidates: tuple[Candidate, ...]
    before: Candidate | None
    """The base model on the same sets; None when training began with random weights."""
    checkpoints_failed: int
    """Checkpoints that could not be written, for a full disk for instance."""
    curve_points_lost: int
    """Points that MLflow did not take; `curves.jsonl` in the work folder has them all."""

    @property
    def learnt(self) -> float | None:
        """By how much the WER on new speech fell."""
        return self.before.new_wer - self.dev_wer if self.before else None

    @property
    def forgot(self) -> float | None:
        """By how much the WER on old speech rose."""
        chosen = next(
            one
            for one in self.candidates
            if (one.share, one.learning_rate) == (self.share, self.learning_rate)
        )
        if self.before is None or self.before.old_wer is None or chosen.old_wer is None:
            return None
        return chosen.old_wer - self.before.old_wer

    def to_json(self) -> str:
        """The summary as JSON."""
        return _SUMMARY.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "TrainingSummary":
        """Read what `to_json` wrote."""
        return _SUMMARY.validate_json(text)


_REQUEST = TypeAdapter(TrainingRequest)
_STAGED = TypeAdapter(StagedTraining)
_SUMMARY = TypeAdapter(TrainingSummary)
