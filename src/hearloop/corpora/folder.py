"""Speech that somebody brings: a CSV or JSON-lines manifest, NeMo's and lhotse's, or a folder of
Kaldi's or of lhotse Shar.

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

from hearloop.corpora import kaldi, manifests
from hearloop.corpora.places import Place
from hearloop.corpora.recordings import Recordings
from hearloop.corpora.splits import split_of
from hearloop.corpora.utterance import UNDATED, Rejected, Utterance
from hearloop.errors import ConfigurationError, InvalidInput, NotFound
from hearloop.ports import ObjectStore
from hearloop.recipe import FolderCorpus, Split

__all__ = ["DEV_SHARE", "TEST_SHARE", "utterances"]

DEV_SHARE, TEST_SHARE = 0.1, 0.2
"""Shares of speakers where the manifest names no split: enough speakers for a verdict."""

_SPLITS: tuple[Split, ...] = get_args(Split)


def utterances(corpus: FolderCorpus, *, objects: ObjectStore) -> Iterator[Utterance | Rejected]:
    """Everything that the manifest lists, in its order. Raises ConfigurationError without one."""
    location = corpus.location.rstrip("/")
    folder, _, name = location.rpartition("/")
    if name.endswith(_MANIFESTS):
        place = Place(folder or ("/" if location.startswith("/") else "."), objects)
        yield from _manifest(place, name, None)
        return
    place = Place(location, objects)
    read = [_held(place, None)] + [_held(place.folder(one), one) for one in _SPLITS]
    read += [
        _manifest(place, form.format(split), split)
        for split in _SPLITS
        for form in _SPLIT_MANIFESTS
        if place.exists(form.format(split))
    ]
    found = [one for one in read if one is not None]
    if not found:
        raise ConfigurationError(
            f"{corpus.location} is no manifest ({', '.join(_MANIFESTS)}), and neither it nor its "
            "folders train, dev and test hold a Kaldi wav.scp, lhotse Shar's cuts.000000.jsonl.gz "
            "or manifests that are named for a split; name one of these."
        )
    for each in found:
        yield from each


_MANIFESTS = (".csv", ".jsonl", ".json", ".jsonl.gz")
_SPLIT_MANIFESTS = ("{}.json", "{}.jsonl", "cuts_{}.jsonl.gz")
"""NeMo's, ours and lhotse's, each for one split."""


def _held(place: Place, split: Split | None) -> Iterator[Utterance | Rejected] | None:
    """What a folder holds by the name of its files; None where it holds nothing that is known."""
    if place.exists("wav.scp"):
        return kaldi.utterances(place, split=split, shares=(DEV_SHARE, TEST_SHARE))
    if manifests.shards(place):
        return manifests.shar(place, split=split, shares=(DEV_SHARE, TEST_SHARE))
    return None


def _manifest(place: Place, name: str, split: Split | None) -> Iterator[Utterance | Rejected]:
    if manifests.is_lhotse(name):
        yield from manifests.lhotse(place, name, split=split, shares=(DEV_SHARE, TEST_SHARE))
        return
    text, recordings = place.read_text(name), Recordings(place)
    rows = _csv_rows(text) if name.endswith(".csv") else _json_rows(text)
    for line, row in rows:
        where = f"{name}:{line}"
        if isinstance(row, str):
            yield Rejected(id=where, reason=f"Line {line} of {name} cannot be read: {row}.")
            continue
        try:
            yield _utterance(recordings, row, where, split)
        except (InvalidInput, NotFound) as error:
            yield Rejected(id=row.get("id") or where, reason=str(error))


_Row = Mapping[str, Any] | str
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
    try:
        row = manifests.nemo({name: one for name, one in row.items() if one not in (None, "")})
    except InvalidInput as error:
        return str(error)
    for name in sorted(_COLUMNS & row.keys()):
        if not isinstance(row[name], str) or re.search("[\ud800-\udfff]", row[name]):
            return f"{name!r} is no text"
    return row


_COLUMNS = {"audio", "text", "id", "speaker", "split", "call", "accent", "language", "recorded_at"}


def _utterance(
    recordings: Recordings, row: Mapping[str, Any], where: str, split: Split | None
) -> Utterance:
    for column in ("audio", "text"):
        if column not in row:
            raise InvalidInput(f"Row {where} has no {column!r}; fill that column.")
    name = row.get("id") or str(PurePosixPath(row["audio"]).with_suffix(""))
    speaker = row.get("speaker", name)
    return Utterance(
        id=name.replace("/", "-"),
        audio=recordings.cut(row["audio"], row.get("span")),
        text=row["text"],
        speaker=speaker,
        split=_split(row, speaker, where, split),
        recorded_at=_recorded_at(row, where),
        call=row.get("call"),
        accent=row.get("accent"),
        language=row.get("language"),
    )


def _split(row: Mapping[str, Any], speaker: str, where: str, split: Split | None) -> Split:
    if "split" not in row:
        return split or split_of(f"folder/{speaker}", dev=DEV_SHARE, test=TEST_SHARE)
    for known in _SPLITS:
        if row["split"] == known:
            return known
    raise InvalidInput(
        f"Row {where} has the split {row['split']!r}; write one of {', '.join(_SPLITS)}."
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
