"""Immutable snapshots of speech in object storage, named by their content.

    s3://<bucket>/audio/<sha256>.flac               16 kHz, mono, 16 bit; shared by snapshots
    s3://<bucket>/snapshots/<digest>/cuts.jsonl.gz  lhotse cuts, one a line
    s3://<bucket>/snapshots/<digest>/quarantine.jsonl
    s3://<bucket>/snapshots/<digest>/manifest.json  written last: without it there is no snapshot
    s3://<bucket>/snapshots/<digest>/successor      alone where somebody was erased: what is left

The manifest holds the digests of the other two files, and its own SHA-256 is the name of the
snapshot; so whoever has the name can tell whether anything was changed.

    >>> snapshot = open_snapshot(digest, objects, "hearloop-snapshots")
    >>> [row.text for row in snapshot.rows() if row.split == "test"][:1]
    ['my account number is one four two']
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hearloop import audio
from hearloop.errors import IntegrityError, NotFound
from hearloop.files import write_atomically
from hearloop.ports import ObjectStore
from hearloop.quality import Quality
from hearloop.recipe import Split

if TYPE_CHECKING:
    from lhotse import CutSet

__all__ = [
    "LONGEST_S",
    "SHORTEST_S",
    "CutRow",
    "Quarantined",
    "Snapshot",
    "audio_uri",
    "local_audio",
    "open_snapshot",
    "successor_uri",
    "write_snapshot",
]

FORMAT = "hearloop-snapshot/1"

SHORTEST_S = 0.3
"""A spoken "yes" takes longer, in seconds."""
LONGEST_S = 30.0
"""Longer cuts hold more than an utterance, mostly by failed segmentation, and would be batches of
their own; in seconds."""

SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, kw_only=True)
class CutRow:
    """One utterance of a snapshot.

    id: of no other recording, in whatever snapshot; text: normalised; source: kind of the corpus;
    recorded_at: with a time zone; seconds of audio at sample_rate Hz; audio_digest: SHA-256 of the
    FLAC file under audio_uri; contributor and correction: who gave the text and by which
    correction, None when it came with the corpus.
    """

    id: str
    split: Split
    text: str
    speaker: str
    call: str | None
    accent: str | None
    language: str
    source: str
    contributor: str | None
    correction: str | None
    recorded_at: datetime
    seconds: float
    sample_rate: int
    audio_digest: str
    audio_uri: str
    quality: Quality


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """What a corpus held that did not become a cut, and why."""

    id: str
    source: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A complete snapshot: its name and its manifest; the rest is read when asked for."""

    digest: str
    manifest: Mapping[str, Any]
    objects: ObjectStore = field(repr=False, compare=False)
    bucket: str = field(repr=False, compare=False)

    @property
    def uri(self) -> str:
        """Where its files are."""
        return _uri(self.bucket, self.digest)

    def rows(self, split: Split | None = None) -> list[CutRow]:
        """The utterances, all or of one split. Raises IntegrityError when they were changed."""
        rows = [_row(cut) for cut in self._lines("cuts", gzipped=True)]
        return [row for row in rows if split in (None, row.split)]

    def cuts(self, split: Split | None = None) -> "CutSet":
        """The utterances as lhotse cuts, all or of one split."""
        from lhotse import CutSet

        cuts = self._lines("cuts", gzipped=True)
        return CutSet.from_dicts(
            [cut for cut in cuts if split in (None, cut["custom"]["split"])]
        ).to_eager()

    def quarantine(self) -> list[Quarantined]:
        """What was left out, and why."""
        return [Quarantined(**line) for line in self._lines("quarantine", gzipped=False)]

    def _lines(self, part: str, *, gzipped: bool) -> list[dict[str, Any]]:
        uri = f"{self.uri}/{_FILES[part]}"
        body = self.objects.get(uri)
        try:
            lines = gzip.decompress(body) if gzipped else body
        except (OSError, EOFError, zlib.error) as error:
            raise IntegrityError(
                f"{uri} is damaged ({error}); restore it from a backup."
            ) from error
        _check(uri, lines, self.manifest[part]["digest"])
        return [json.loads(line) for line in lines.splitlines()]


_FILES = {"cuts": "cuts.jsonl.gz", "quarantine": "quarantine.jsonl"}


def open_snapshot(digest: str, objects: ObjectStore, bucket: str) -> Snapshot:
    """Find a complete snapshot by its name; of one that somebody was erased from, what is left.

    Raises NotFound when there is none and IntegrityError when its manifest was changed.
    """
    uri = f"{_uri(bucket, digest)}/manifest.json"
    try:
        body = objects.get(uri)
    except NotFound:
        try:
            successor = objects.get(successor_uri(bucket, digest)).decode()
        except NotFound:
            raise NotFound(
                f"There is no snapshot {digest[:12]} in {bucket}; check its digest, or ingest it "
                "again."
            ) from None
        return open_snapshot(successor, objects, bucket)
    _check(uri, body, digest)
    return Snapshot(digest=digest, manifest=json.loads(body), objects=objects, bucket=bucket)


def write_snapshot(
    rows: Sequence[CutRow],
    quarantine: Sequence[Quarantined],
    *,
    recipe: Sequence[Mapping[str, Any]],
    objects: ObjectStore,
    bucket: str,
    language: str = "en",
    cleaning: Mapping[str, bool] | None = None,
) -> Snapshot:
    """Store a snapshot of utterances whose audio is already stored.

    recipe: the corpora, as JSON values; language: tag of what is spoken in all of them;
    cleaning: what was done to the recordings. Equal arguments give the same snapshot, whether or
    not an earlier call was cut off at any point.
    """
    parts = {
        "cuts": _json_lines(_cut(row) for row in rows),
        "quarantine": _json_lines(asdict(one) for one in quarantine),
    }
    manifest = {
        "format": FORMAT,
        "language": language,
        "cleaning": dict(cleaning or {}),
        "recipe": list(recipe),
        "cuts": {"digest": audio.digest(parts["cuts"]), "count": len(rows)},
        "quarantine": {"digest": audio.digest(parts["quarantine"]), "count": len(quarantine)},
        "splits": {split: _counts([row for row in rows if row.split == split]) for split in SPLITS},
    }
    body = _json(manifest)
    digest = audio.digest(body)
    folder = _uri(bucket, digest)
    if not objects.exists(f"{folder}/manifest.json"):
        # The digest in the manifest is of the lines, since what gzip makes of them differs
        # between builds of zlib.
        packed = gzip.compress(parts["cuts"], mtime=0)
        objects.put(f"{folder}/cuts.jsonl.gz", packed, content_type="application/gzip")
        objects.put(
            f"{folder}/quarantine.jsonl", parts["quarantine"], content_type="application/jsonl"
        )
        objects.create(f"{folder}/manifest.json", body, content_type="application/json")
    return open_snapshot(digest, objects, bucket)


def local_audio(row: CutRow, objects: ObjectStore, cache: Path) -> Path:
    """A local copy of an utterance's FLAC file, fetched once and verified each time.

    Raises NotFound, or IntegrityError when the stored bytes are not what their digest says.
    """
    path = cache / "audio" / row.audio_digest[:2] / f"{row.audio_digest}.flac"
    if path.exists() and audio.digest(path.read_bytes()) == row.audio_digest:
        return path
    body = objects.get(row.audio_uri)
    _check(row.audio_uri, body, row.audio_digest)
    write_atomically(path, body)
    return path


def audio_uri(bucket: str, audio_digest: str) -> str:
    """Where the snapshots of a bucket keep a FLAC file."""
    return f"s3://{bucket}/audio/{audio_digest}.flac"


def successor_uri(bucket: str, digest: str) -> str:
    """Where the digest of the snapshot stands that took the place of this one."""
    return f"{_uri(bucket, digest)}/successor"


def _uri(bucket: str, digest: str) -> str:
    return f"s3://{bucket}/snapshots/{digest}"


def _check(uri: str, body: bytes, expected: str) -> None:
    found = audio.digest(body)
    if found != expected:
        raise IntegrityError(
            f"{uri} has SHA-256 {found[:12]} where {expected[:12]} was stored; "
            "restore it from a backup."
        )


def _counts(rows: Sequence[CutRow]) -> dict[str, Any]:
    return {
        "count": len(rows),
        "seconds": round(sum(row.seconds for row in rows), 3),
        "speakers": len({row.speaker for row in rows}),
    }


def _json(value: Any) -> bytes:
    """Canonical JSON: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _json_lines(values: Iterable[Any]) -> bytes:
    return b"".join(_json(value) + b"\n" for value in values)


def _cut(row: CutRow) -> dict[str, Any]:
    """The row as lhotse serialises a MonoCut that is a whole recording with one supervision."""
    said_by = {
        "accent": row.accent,
        "call": row.call,
        "contributor": row.contributor,
        "correction": row.correction,
        "recorded_at": row.recorded_at.isoformat(),
    }
    span = {"start": 0, "duration": row.seconds, "channel": 0}
    return {
        "id": row.id,
        "type": "MonoCut",
        **span,
        "recording": {
            "id": row.id,
            "sources": [{"type": "url", "channels": [0], "source": row.audio_uri}],
            "sampling_rate": row.sample_rate,
            "num_samples": round(row.seconds * row.sample_rate),
            "duration": row.seconds,
            "channel_ids": [0],
        },
        "supervisions": [
            {
                "id": row.id,
                "recording_id": row.id,
                **span,
                "text": row.text,
                "language": row.language,
                "speaker": row.speaker,
                "custom": said_by,
            }
        ],
        "custom": {
            "split": row.split,
            "source": row.source,
            "audio_digest": row.audio_digest,
            "quality": asdict(row.quality),
        },
    }


def _row(cut: Mapping[str, Any]) -> CutRow:
    recording, (supervision,), custom = cut["recording"], cut["supervisions"], cut["custom"]
    said_by = supervision["custom"]
    return CutRow(
        id=cut["id"],
        split=custom["split"],
        text=supervision["text"],
        speaker=supervision["speaker"],
        call=said_by["call"],
        accent=said_by["accent"],
        language=supervision["language"],
        source=custom["source"],
        contributor=said_by["contributor"],
        correction=said_by["correction"],
        recorded_at=datetime.fromisoformat(said_by["recorded_at"]),
        seconds=recording["duration"],
        sample_rate=recording["sampling_rate"],
        audio_digest=custom["audio_digest"],
        audio_uri=recording["sources"][0]["source"],
        quality=Quality(**custom["quality"]),
    )
