"""A training whose request, checkpoints and answer are in object storage: pods keep no disk.

s3://<bucket>/trainings/<digest>/request.json
s3://<bucket>/trainings/<digest>/base/…          the bundle to start from
s3://<bucket>/trainings/<digest>/checkpoints/…   the newest whole one goes on after a lost pod
s3://<bucket>/trainings/<digest>/bundle/…        the answer: bundle, then summary.json
s3://<bucket>/trainings/<digest>/summary.json
"""

import shutil
from pathlib import Path

from hearloop.bundle import verify
from hearloop.errors import NotFound
from hearloop.files import write_atomically
from hearloop.ports import ObjectStore
from hearloop.training.pretrained import fetch_pretrained
from hearloop.training.request import (
    CHECKPOINTS_KEPT,
    SUMMARY,
    StagedTraining,
    TrainingRequest,
    TrainingSummary,
)
from hearloop.training.sets import fetched

__all__ = ["RemoteTraining"]


class RemoteTraining:
    """One training's folder in object storage, seen from either side."""

    def __init__(self, folder: str, objects: ObjectStore, cache: Path) -> None:
        """`folder`: `s3://` URI without a slash at its end; `cache`: local copies."""
        self.folder = folder.rstrip("/")
        self._objects = objects
        self._cache = cache

    def ask(self, request: TrainingRequest, base: Path | None) -> None:
        """Put the request and the base bundle where the pods find them."""
        if base:
            self._put_bundle(base, "base")
        body = request.to_json().encode()
        self._objects.put(f"{self.folder}/request.json", body, content_type="application/json")

    def answered(self) -> TrainingSummary | None:
        """The summary once the training is over, None before."""
        try:
            return TrainingSummary.from_json(self._objects.get(f"{self.folder}/{SUMMARY}"))
        except NotFound:
            return None

    def fetch_bundle(self, output: Path) -> None:
        """Copy the trained bundle to `output`. Raises IntegrityError when it was changed."""
        self._get_bundle("bundle", output)

    def stage(self) -> StagedTraining:
        """Fetch everything that a worker needs to this machine, the newest checkpoints too."""
        request = TrainingRequest.from_json(self._objects.get(f"{self.folder}/request.json"))
        work = self._cache / "trainings" / request.digest
        base = self._get_bundle("base", work / "base") if request.base else None
        self._get_checkpoints(work / "checkpoints")
        shards = [fetched(one, self._objects, self._cache) for one in request.sets]
        return StagedTraining(
            request=request,
            shards=tuple(shards),
            base=base,
            work=work,
            output=work / "bundle",
            pretrained=fetch_pretrained(request.config.family, self._objects, self._cache),
        )

    def keep(self, checkpoint: Path) -> None:
        """Store a checkpoint and forget all but the one before it."""
        uri = f"{self.folder}/checkpoints/{checkpoint.name}"
        self._objects.put(uri, checkpoint.read_bytes())
        for old in self._checkpoints()[CHECKPOINTS_KEPT:]:
            self._objects.delete(old)

    def answer(self, bundle: Path, summary: TrainingSummary) -> None:
        """Store the trained bundle, then the summary."""
        self._put_bundle(bundle, "bundle")
        body = summary.to_json().encode()
        self._objects.put(f"{self.folder}/{SUMMARY}", body, content_type="application/json")

    def _get_checkpoints(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for uri in self._checkpoints():
            write_atomically(folder / uri.rpartition("/")[2], self._objects.get(uri))

    def _checkpoints(self) -> list[str]:
        """URIs of the stored checkpoints, the newest first."""
        return sorted(self._objects.list(f"{self.folder}/checkpoints/"), reverse=True)

    def _put_bundle(self, directory: Path, name: str) -> None:
        for file in verify(directory).files:
            self._objects.put(f"{self.folder}/{name}/{file}", (directory / file).read_bytes())

    def _get_bundle(self, name: str, directory: Path) -> Path:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for uri in self._objects.list(f"{self.folder}/{name}/"):
            (directory / uri.rpartition("/")[2]).write_bytes(self._objects.get(uri))
        verify(directory)
        return directory
