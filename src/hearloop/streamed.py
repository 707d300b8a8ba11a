"""Speech that stays in object storage while a training hears it: lhotse Shar, a shard at a time.

    s3://<bucket>/shar/<snapshot>/train/cuts.000000.jsonl.gz, recording.000000.tar, …
    s3://<bucket>/shar/<snapshot>/manifest.json     digests of all of them, written last

A feature archive is fetched to each machine and read into memory, which is fast for hours of
speech and impossible for thousands. Here texts and lengths are read first; audio comes when a
batch needs it, and the last few shards are kept. Any worker finds any utterance, so what is in a
batch depends on the seed and the step alone, here too.
"""

import hashlib
import io
import json
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hearloop.audio import decode
from hearloop.corpora.manifests import unpacked
from hearloop.datasets import Snapshot
from hearloop.errors import IntegrityError
from hearloop.exchange import export
from hearloop.features import HOP, SAMPLE_RATE, Matrix, Samples, log_mel
from hearloop.ports import ObjectStore
from hearloop.recipe import Split

__all__ = ["SHARDS_TOGETHER", "LazyFeatures", "StreamedUtterance", "extract", "is_streamed", "read"]

SHARDS_TOGETHER: Final = 4
"""Shards whose utterances share batches: enough to mix, few enough to hold."""
_KEPT: Final = 2 * SHARDS_TOGETHER
"""Shards held: those of now and those that the last batches of a window overlap with. About 20 MB
each, whatever there is in all."""
_SPLITS: Final[tuple[Split, ...]] = ("train", "dev")


@dataclass(frozen=True, kw_only=True)
class StreamedUtterance:
    """One utterance whose audio is elsewhere; like `feature_archive.ArchivedUtterance`."""

    id: str
    split: str
    text: str
    features: "LazyFeatures"


class LazyFeatures:
    """Features (frames, bins) that are computed from stored audio whenever they are asked for."""

    def __init__(self, shards: "_Shards", shard: int, name: str, frames: int, bins: int) -> None:
        self.shape = (frames, bins)
        self.shard = shard
        self._shards = shards
        self._name = name

    def __len__(self) -> int:
        """Frames, without hearing the audio."""
        return self.shape[0]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Matrix:
        return self.astype(dtype or np.float32)

    def astype(self, dtype: npt.DTypeLike) -> Matrix:
        """The features. Raises NotFound, or IntegrityError when a shard was changed."""
        matrix: Matrix = self._shards.features(self.shard, self._name).astype(dtype, copy=False)
        return matrix


def is_streamed(uri: str) -> bool:
    """Whether an archive's URI is one of `extract` here."""
    return "/shar/" in uri


def extract(snapshot: Snapshot, *, objects: ObjectStore, bucket: str, cache: Path) -> str:
    """Make sure that the snapshot is in object storage as lhotse Shar; returns its manifest's URI.

    `cache`: local folder for copies of the audio, a shard's at a time.
    """
    folder = f"s3://{bucket}/shar/{snapshot.digest}"
    uri = f"{folder}/manifest.json"
    if objects.exists(uri):
        return uri
    export(snapshot, "shar", folder, objects=objects, cache=cache, splits=_SPLITS)
    files = {
        name.removeprefix(f"{folder}/"): hashlib.sha256(objects.get(name)).hexdigest()
        for name in sorted(objects.list(f"{folder}/"))
    }
    body = json.dumps({"snapshot": snapshot.digest, "files": files}, sort_keys=True).encode()
    objects.put(uri, body, content_type="application/json")
    return uri


def read(
    uri: str, objects: ObjectStore, *, transform: Callable[[Samples], Matrix] = log_mel, bins: int
) -> Iterator[StreamedUtterance]:
    """Utterances in the order of their shards; no audio is read yet.

    transform: from samples to the features that the network takes, `bins` a frame. Raises
    NotFound, or IntegrityError when a file is not what the manifest says.
    """
    shards = _Shards(uri, objects, transform)
    for number, name in enumerate(shards.names):
        for cut in shards.cuts(name):
            frames = (round(cut["duration"] * SAMPLE_RATE) + HOP // 2) // HOP
            yield StreamedUtterance(
                id=cut["id"],
                split=cut["custom"]["split"],
                text=cut["supervisions"][0]["text"],
                features=LazyFeatures(shards, number, cut["id"], frames, bins),
            )


class _Shards:
    """The shards of one snapshot; safe between threads."""

    def __init__(
        self, uri: str, objects: ObjectStore, transform: Callable[[Samples], Matrix]
    ) -> None:
        self._folder = uri.rpartition("/")[0]
        self._objects = objects
        self._transform = transform
        self._digests: Mapping[str, str] = json.loads(objects.get(uri))["files"]
        self._held: OrderedDict[int, Mapping[str, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def names(self) -> list[str]:
        """Shards as `train/000000`."""
        return [
            name.replace("/cuts.", "/").removesuffix(".jsonl.gz")
            for name in self._digests
            if "/cuts." in name
        ]

    def cuts(self, name: str) -> list[dict[str, Any]]:
        split, number = name.split("/")
        path = f"{split}/cuts.{number}.jsonl.gz"
        return [json.loads(line) for line in unpacked(self._get(path), path).splitlines()]

    def features(self, shard: int, name: str) -> Matrix:
        with self._lock:
            if shard not in self._held:
                self._held[shard] = self._recordings(self.names[shard])
                if len(self._held) > _KEPT:
                    self._held.popitem(last=False)
            self._held.move_to_end(shard)
            body = self._held[shard][name]
        return self._transform(decode(body).samples)

    def _recordings(self, name: str) -> dict[str, bytes]:
        split, number = name.split("/")
        body = self._get(f"{split}/recording.{number}.tar")
        found = {}
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None and member.name.endswith(".flac"):
                    found[member.name.removesuffix(".flac")] = file.read()
        return found

    def _get(self, path: str) -> bytes:
        body = self._objects.get(f"{self._folder}/{path}")
        if hashlib.sha256(body).hexdigest() != self._digests[path]:
            raise IntegrityError(
                f"{self._folder}/{path} is not what its manifest says; delete that folder and "
                "run the pipeline again."
            )
        return body
