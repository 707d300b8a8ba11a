"""Speech that somebody brings: a CSV or JSON-lines manifest or a Kaldi data folder.

A manifest needs `audio` (a path or `s3://` URI, relative to the manifest) and `text`; it may have
`id`, `speaker`, `split`, `call`, `accent`, `language` and `recorded_at` (ISO 8601). Without a
split, a hash of the speaker decides. A row that cannot be used is rejected with its reason.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, get_args

from hearloop.corpora import kaldi
from hearloop.corpora.places import Place
from hearloop.corpora.splits import split_of
from hearloop.corpora.utterance import UNDATED, Rejected, Utterance
from hearloop.errors import ConfigurationError, InvalidInput, NotFound
from hearloop.ports import ObjectStore
from hearloop.recipe import FolderCorpus, Split

__all__ = ["DEV_SHARE", "TEST_SHARE", "utterances"]

DEV_SHARE, TEST_SHARE = 0.1, 0.2
"""Shares of speakers where the manifest names no split: enough speakers for a verdict."""

_KALDI_SPLITS: tuple[Split, ...] = get_args(Split)


def utterances(corpus: FolderCorpus, *, objects: ObjectStore) -> Iterator[Utterance | Rejected]:
    """Everything that the manifest lists, in its order. Raises ConfigurationError without one."""
    location = corpus.location.rstrip("/")
    folder, _, name = location.rpartition("/")
    if name.endswith((".csv", ".jsonl")):
        place = Place(folder or ("/" if location.startswith("/") else "."), objects)
        yield from _manifest(place, name)
        return
    place = Place(location, objects)
    parts = {
        split: place.folder(split)
        for split in _KALDI_SPLITS
        if place.folder(split).exists("wav.scp")
    }
    if place.exists("wav.scp"):
        yield from kaldi.utterances(place, split=None, shares=(DEV_SHARE, TEST_SHARE))
    elif parts:
        for split, part in parts.items():
            yield from kaldi.utterances(part, split=split, shares=(DEV_SHARE, TEST_SHARE))
    else:
        raise ConfigurationError(
            f"{corpus.location} is no .csv or .jsonl manifest, and neither it nor its folders "
            "train, dev and test hold a Kaldi wav.scp; name one of these."
        )


def _manifest(place: Place, name: str) -> Iterator[Utterance | Rejected]:
    text = place.read_text(name)
    rows = _csv_rows(text) if name.endswith(".csv") else _json_rows(text)
    for line, row in rows:
        where = f"{name}:{line}"
        if isinstance(row, str):
            yield Rejected(id=where, reason=f"Line {line} of {name} cannot be read: {row}.")
            continue
        try:
            yield _utterance(place, row, where)
        except (InvalidInput, NotFound) as error:
            yield Rejected(id=row.get("id") or where, reason=str(error))


_Row = Mapping[str, str] | str
"""The columns that have a value, or why there are none."""


def _csv_rows(text: str) -> Iterator[tuple[int, _Row]]:
    reader = csv.DictReader(io.StringIO(text), restkey="", strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, str(error)
            continue
        if "" in row:
            yield reader.line_num, "it has more fields than the first line"
        else:
            yield reader.line_num, {name: value for name, value in row.items() if value}


def _json_rows(text: str) -> Iterator[tuple[int, _Row]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            yield line, _json_row(content)


def _json_row(content: str) -> _Row:
    try:
        row: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        return f"it is no JSON ({error})"
    if not isinstance(row, dict):
        return "it is no JSON object"
    row = {name: value for name, value in row.items() if value not in (None, "")}
    for name in sorted(_COLUMNS & row.keys()):
        if not isinstance(row[name], str) or re.search("[\ud800-\udfff]", row[name]):
            return f"{name!r} is no text"
    return row


_COLUMNS = {"audio", "text", "id", "speaker", "split", "call", "accent", "language", "recorded_at"}


def _utterance(place: Place, row: Mapping[str, str], where: str) -> Utterance:
    for column in ("audio", "text"):
        if column not in row:
            raise InvalidInput(f"Row {where} has no {column!r}; fill that column.")
    name = row.get("id") or str(PurePosixPath(row["audio"]).with_suffix(""))
    speaker = row.get("speaker", name)
    return Utterance(
        id=name.replace("/", "-"),
        audio=place.read_audio(row["audio"]),
        text=row["text"],
        speaker=speaker,
        split=_split(row, speaker, where),
        recorded_at=_recorded_at(row, where),
        call=row.get("call"),
        accent=row.get("accent"),
        language=row.get("language"),
    )


def _split(row: Mapping[str, str], speaker: str, where: str) -> Split:
    if "split" not in row:
        return split_of(f"folder/{speaker}", dev=DEV_SHARE, test=TEST_SHARE)
    for split in _KALDI_SPLITS:
        if row["split"] == split:
            return split
    raise InvalidInput(
        f"Row {where} has the split {row['split']!r}; write one of {', '.join(_KALDI_SPLITS)}."
    )


def _recorded_at(row: Mapping[str, str], where: str) -> datetime:
    """A time without an offset is taken as UTC: what a snapshot holds may not depend on where."""
    if "recorded_at" not in row:
        return UNDATED
    try:
        moment = datetime.fromisoformat(row["recorded_at"])
    except ValueError:
        raise InvalidInput(
            f"Row {where} was recorded at {row['recorded_at']!r}; write ISO 8601."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
