"""The speech of a training: features that were fetched, or audio that stays in object storage."""

from collections.abc import Iterator
from pathlib import Path

from hearloop import feature_archive, streamed
from hearloop.architecture import sample_rows
from hearloop.bundle import hears_samples
from hearloop.config import Settings
from hearloop.feature_archive import ArchivedUtterance
from hearloop.features import HOP, MEL_BINS, log_mel
from hearloop.ports import ObjectStore
from hearloop.storage.objects import S3Objects
from hearloop.streamed import StreamedUtterance
from hearloop.training.request import FeatureSet, StagedTraining

__all__ = ["fetched", "utterances"]


def fetched(feature_set: FeatureSet, objects: ObjectStore, cache: Path) -> tuple[Path, ...]:
    """Local copies of a set's shards; none where the set is streamed."""
    if streamed.is_streamed(feature_set.archive):
        return ()
    return tuple(feature_archive.fetch(feature_set.archive, objects, cache))


def utterances(
    staged: StagedTraining,
) -> Iterator[tuple[FeatureSet, ArchivedUtterance | StreamedUtterance]]:
    """Every utterance of every set, beside its set."""
    for feature_set, shards in zip(staged.request.sets, staged.shards, strict=True):
        if streamed.is_streamed(feature_set.archive):
            objects = S3Objects(Settings())  # a worker is a process of its own
            samples = hears_samples(staged.request.config.family, staged.base)
            transform, bins = (sample_rows, HOP) if samples else (log_mel, MEL_BINS)
            for one in streamed.read(feature_set.archive, objects, transform=transform, bins=bins):
                yield feature_set, one
        else:
            for utterance in feature_archive.read(shards):
                yield feature_set, utterance
