"""Features of a snapshot in object storage, extracted once and trained on many times.

    s3://<bucket>/features/<snapshot>-<configuration>/shard-00000.safetensors   float16, with rows
    s3://<bucket>/features/<snapshot>-<configuration>/manifest.json             written last

They are log-mel energies, or the samples themselves for networks that take those: float16 rounds
them to 66 dB below the sound, and they take twice the room.

An archive is named by what it was made from: the snapshot and the feature configuration. It
holds the train and dev splits with their texts, so that training reads nothing else.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from hearloop.architecture import sample_rows
from hearloop.audio import decode
from hearloop.datasets import CutRow, Snapshot, local_audio
from hearloop.errors import IntegrityError
from hearloop.features import CONFIGURATION, Matrix, Samples, configuration_digest, log_mel
from hearloop.files import write_atomically
from hearloop.ports import ObjectStore
from hearloop.telemetry import Progress, Silent

__all__ = ["ArchivedUtterance", "extract", "fetch", "read"]

_SPLITS: Final = ("train", "dev")
_SHARD_UTTERANCES: Final = 512
"""Utterances in a shard: about 25 MB of features."""
_THREADS: Final = 2
"""Decoding and analysis release the interpreter lock; more threads than cores gain nothing."""


@dataclass(frozen=True, kw_only=True)
class ArchivedUtterance:
    """One utterance of an archive."""

    id: str
    split: str
    text: str
    features: npt.NDArray[np.float16]
    """Log-mel energies (frames, 80), or samples (frames, 160)."""


def extract(
    snapshot: Snapshot,
    *,
    objects: ObjectStore,
    bucket: str,
    cache: Path,
    samples: bool = False,
    progress: Progress | None = None,
) -> str:
    """Make sure that the snapshot's features are archived; returns the URI of the manifest.
    Args:
        snapshot: what to analyse.
        objects: where audio comes from and features go to.
        bucket: the bucket for the archive.
        cache: local folder for copies of the audio.
        samples: archive the samples in place of log-mel energies.
        progress: told about each utterance.

    Raises:
        IntegrityError: stored audio is not what its digest says.
        InvalidAudio: stored audio cannot be decoded.
    """
    name = "samples" if samples else configuration_digest()[:16]
    folder = f"s3://{bucket}/features/{snapshot.digest}-{name}"
    uri = f"{folder}/manifest.json"
    if objects.exists(uri):
        return uri
    rows = [row for row in snapshot.rows() if row.split in _SPLITS]
    shards = []
    transform = sample_rows if samples else log_mel
    for start in range(0, len(rows), _SHARD_UTTERANCES):
        part = rows[start : start + _SHARD_UTTERANCES]
        body = _shard(part, transform, objects, cache, progress or Silent())
        name = f"shard-{start // _SHARD_UTTERANCES:05d}.safetensors"
        objects.put(f"{folder}/{name}", body)
        shards.append({"name": name, "sha256": hashlib.sha256(body).hexdigest()})
    configuration = {"kind": "samples"} if samples else CONFIGURATION
    manifest = {"snapshot": snapshot.digest, "features": configuration, "shards": shards}
    objects.put(uri, json.dumps(manifest, sort_keys=True).encode(), content_type="application/json")
    return uri


def _shard(
    rows: Sequence[CutRow],
    transform: Callable[[Samples], Matrix],
    objects: ObjectStore,
    cache: Path,
    progress: Progress,
) -> bytes:
    def analyse(row: CutRow) -> npt.NDArray[np.float16]:
        audio = decode(local_audio(row, objects, cache).read_bytes())
        progress.advance()
        return transform(audio.samples).astype(np.float16)

    with ThreadPoolExecutor(_THREADS) as pool:
        matrices = list(pool.map(analyse, rows))
    listed = [
        {"id": row.id, "split": row.split, "text": row.text, "frames": len(matrix)}
        for row, matrix in zip(rows, matrices, strict=True)
    ]
    return save({"features": np.concatenate(matrices)}, metadata={"rows": json.dumps(listed)})


def fetch(uri: str, objects: ObjectStore, cache: Path) -> list[Path]:
    """Local copies of an archive's shards, each fetched once and verified each time.

    Raises NotFound, or IntegrityError when a shard is not what the manifest says.
    """
    manifest = json.loads(objects.get(uri))
    folder = uri.rpartition("/")[0]
    return [
        _fetch_shard(f"{folder}/{shard['name']}", shard["sha256"], objects, cache)
        for shard in manifest["shards"]
    ]


def _fetch_shard(uri: str, sha256: str, objects: ObjectStore, cache: Path) -> Path:
    path = cache / "features" / f"{sha256}.safetensors"
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
        return path
    body = objects.get(uri)
    if hashlib.sha256(body).hexdigest() != sha256:
        raise IntegrityError(
            f"{uri} is not what its manifest says; delete the archive's folder and extract again."
        )
    write_atomically(path, body)
    return path


def read(shards: Sequence[Path]) -> Iterator[ArchivedUtterance]:
    """Utterances of fetched shards, in the archive's order. Raises IntegrityError."""
    for path in shards:
        try:
            with safe_open(path, framework="numpy") as shard:
                rows: list[dict[str, Any]] = json.loads(shard.metadata()["rows"])
                features = shard.get_tensor("features")
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise IntegrityError(
                f"The feature shard {path} cannot be read ({error}); delete it and run again."
            ) from error
        start = 0
        for row in rows:
            matrix = features[start : start + row["frames"]]
            start += row["frames"]
            yield ArchivedUtterance(
                id=row["id"], split=row["split"], text=row["text"], features=matrix
            )
