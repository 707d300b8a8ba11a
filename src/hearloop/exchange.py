"""A snapshot for other toolkits: Kaldi folders, lhotse cuts or Shar, NeMo's JSON lines.

    TARGET/audio/<id>.flac            but for Shar, which holds the audio in its shards
    TARGET/train/wav.scp, text, …     kaldi
    TARGET/train.json                 nemo
    TARGET/cuts_train.jsonl.gz        lhotse
    TARGET/train/cuts.000000.jsonl.gz, recording.000000.tar, …      shar

Each is also what a recipe's folder corpus reads, so what is written comes back the same.
"""

import gzip
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

from hearloop.datasets import SPLITS, CutRow, Snapshot, local_audio
from hearloop.errors import InvalidInput
from hearloop.files import write_atomically
from hearloop.ports import ObjectStore
from hearloop.recipe import Split

__all__ = ["FORMATS", "Format", "export"]

Format = Literal["kaldi", "lhotse", "nemo", "shar"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

_SHARD: Final = 200
"""Utterances of a shard: about 20 MB, and no more is ever held on the way out."""


class _Target:
    """Where an export goes: a folder or a prefix in object storage."""

    def __init__(self, location: str, objects: ObjectStore) -> None:
        stored = location.startswith("s3://")
        self.location = location.rstrip("/") if stored else str(Path(location).resolve())
        self._objects = objects if stored else None

    def put(self, name: str, body: bytes) -> None:
        if self._objects:
            self._objects.put(f"{self.location}/{name}", body)
        else:
            write_atomically(Path(self.location, name), body)


def export(
    snapshot: Snapshot,
    form: Format,
    target: str,
    *,
    objects: ObjectStore,
    cache: Path,
    splits: Sequence[Split] = SPLITS,
) -> int:
    """Write the utterances of a snapshot under `target`, a folder or `s3://`; returns how many.

    Run again it writes the same. Raises InvalidInput where the format cannot hold a name.
    """
    place, count = _Target(target, objects), 0
    for split in splits:
        rows = sorted(snapshot.rows(split), key=lambda row: row.id)
        if not rows:
            continue
        count += len(rows)
        if form == "shar":
            _shar(snapshot, split, rows, place, objects, cache)
            continue
        for row in rows:
            place.put(f"audio/{row.id}.flac", local_audio(row, objects, cache).read_bytes())
        _WRITERS[form](place, split, rows, snapshot)
    return count


def _kaldi(place: _Target, split: str, rows: Sequence[CutRow], snapshot: Snapshot) -> None:
    for name in {name for row in rows for name in (row.id, row.speaker)}:
        if re.search(r"\s", name):
            raise InvalidInput(
                f"Kaldi separates names by spaces and {name!r} holds one; export to another format."
            )
    speakers: dict[str, list[str]] = {}
    for row in rows:
        speakers.setdefault(row.speaker, []).append(row.id)
    files = {
        "wav.scp": ((row.id, f"{place.location}/audio/{row.id}.flac") for row in rows),
        "text": ((row.id, row.text) for row in rows),
        "utt2spk": ((row.id, row.speaker) for row in rows),
        "spk2utt": ((speaker, " ".join(ids)) for speaker, ids in sorted(speakers.items())),
    }
    for name, lines in files.items():
        body = "".join(f"{key} {value}\n" for key, value in lines)
        place.put(f"{split}/{name}", body.encode())


def _nemo(place: _Target, split: str, rows: Sequence[CutRow], snapshot: Snapshot) -> None:
    lines = (
        {
            "audio_filepath": f"audio/{row.id}.flac",
            "duration": row.seconds,
            "text": row.text,
            "lang": row.language,
            "speaker": row.speaker,
            "id": row.id,
            "split": row.split,
            "call": row.call,
            "accent": row.accent,
            "recorded_at": row.recorded_at.isoformat(),
        }
        for row in rows
    )
    place.put(f"{split}.json", _json_lines(lines))


def _lhotse(place: _Target, split: str, rows: Sequence[CutRow], snapshot: Snapshot) -> None:
    kind = "url" if place.location.startswith("s3://") else "file"
    cuts = {cut.id: cut.to_dict() for cut in snapshot.cuts(split)}  # type: ignore[arg-type]
    for row in rows:
        location = f"{place.location}/audio/{row.id}.flac"
        source = {"type": kind, "channels": [0], "source": location}
        cuts[row.id]["recording"]["sources"] = [source]
    body = _json_lines(cuts[row.id] for row in rows)
    place.put(f"cuts_{split}.jsonl.gz", gzip.compress(body, mtime=0))


def _shar(
    snapshot: Snapshot,
    split: str,
    rows: Sequence[CutRow],
    place: _Target,
    objects: ObjectStore,
    cache: Path,
) -> None:
    """Copies of the audio are kept as long as their shard is written: there may be much of it."""
    from lhotse import CutSet
    from lhotse.shar import SharWriter

    cuts = {cut.id: cut.to_dict() for cut in snapshot.cuts(split)}  # type: ignore[arg-type]
    cache.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(rows), _SHARD):
        part = rows[start : start + _SHARD]
        with (
            tempfile.TemporaryDirectory(dir=cache) as copies,
            tempfile.TemporaryDirectory(dir=cache) as folder,
        ):
            for row in part:
                path = local_audio(row, objects, Path(copies))
                source = {"type": "file", "channels": [0], "source": str(path)}
                cuts[row.id]["recording"]["sources"] = [source]
            number = start // _SHARD
            fields = {"recording": "flac"}
            with SharWriter(folder, fields, shard_size=_SHARD, shard_offset=number) as writer:
                for cut in CutSet.from_dicts([cuts[row.id] for row in part]):
                    writer.write(cut)
            for path in sorted(Path(folder).iterdir()):
                place.put(f"{split}/{path.name}", path.read_bytes())


def _json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


_WRITERS: Final[Mapping[str, Callable[[_Target, str, Sequence[CutRow], Snapshot], None]]] = {
    "kaldi": _kaldi,
    "lhotse": _lhotse,
    "nemo": _nemo,
}
