import gzip
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop import audio
from hearloop.datasets import (
    CutRow,
    Quarantined,
    Snapshot,
    audio_uri,
    local_audio,
    open_snapshot,
    write_snapshot,
)
from hearloop.errors import IntegrityError, NotFound
from hearloop.quality import Quality
from hearloop.testing import InMemoryObjects

BUCKET = "snapshots"
QUALITY = Quality(
    duration_s=1.0, snr_db=20.0, bandwidth_hz=8e3, loudness_dbfs=-26.0, clipping=0.0, silence=0.1
)
FLAC = audio.encode_flac(np.zeros(16_000, np.float32))
ROW = CutRow(
    id="call-1-00",
    split="train",
    text="hello there",
    speaker="ann",
    call="call-1",
    accent=None,
    language="en",
    source="folder",
    contributor=None,
    correction=None,
    recorded_at=datetime(2024, 1, 1, tzinfo=UTC),
    seconds=1.0,
    sample_rate=16_000,
    audio_digest=audio.digest(FLAC),
    audio_uri=audio_uri(BUCKET, audio.digest(FLAC)),
    quality=QUALITY,
)
BAD = Quarantined(id="call-1-01", source="folder", reason="The recording holds no samples.")


def _write(objects: InMemoryObjects, *rows: CutRow) -> Snapshot:
    return write_snapshot(rows, [BAD], recipe=[{"kind": "folder"}], objects=objects, bucket=BUCKET)


NAMES = st.text(min_size=1, max_size=8)
ROWS = st.builds(
    CutRow,
    id=NAMES,
    split=st.sampled_from(["train", "dev", "test"]),
    text=NAMES,
    speaker=NAMES,
    call=st.none() | NAMES,
    accent=st.none() | NAMES,
    language=st.just("en"),
    source=NAMES,
    contributor=st.none() | NAMES,
    correction=st.none() | NAMES,
    recorded_at=st.datetimes(
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])
    ),
    seconds=st.integers(1, 480_000).map(lambda samples: samples / 16_000),
    sample_rate=st.just(16_000),
    audio_digest=st.just(ROW.audio_digest),
    audio_uri=st.just(ROW.audio_uri),
    quality=st.builds(Quality, **dict.fromkeys(vars(QUALITY), st.floats(-1e6, 1e6))),
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(ROWS, max_size=4))
def test_what_is_written_is_read_again(rows: list[CutRow]) -> None:
    objects = InMemoryObjects()
    written = _write(objects, *rows)
    opened = open_snapshot(written.digest, objects, BUCKET)
    assert opened == written
    assert opened.rows() == rows
    assert opened.quarantine() == [BAD]
    for split in ("train", "dev", "test"):
        assert opened.rows(split) == [row for row in rows if row.split == split]


def test_the_name_is_the_digest_of_the_manifest_and_tells_the_content() -> None:
    objects = InMemoryObjects()
    first, again = _write(objects, ROW), _write(InMemoryObjects(), ROW)
    other = _write(objects, replace(ROW, text="good bye"))
    assert first.digest == again.digest != other.digest
    assert audio.digest(objects.get(f"{first.uri}/manifest.json")) == first.digest


def test_the_manifest_counts_what_is_in_each_split() -> None:
    second = replace(ROW, id="b", split="test", seconds=2.5, speaker="bob")
    manifest = _write(InMemoryObjects(), ROW, second).manifest
    assert manifest["cuts"]["count"] == 2
    assert manifest["quarantine"]["count"] == 1
    assert manifest["splits"]["test"] == {"count": 1, "seconds": 2.5, "speakers": 1}
    assert manifest["splits"]["dev"]["count"] == 0


def test_cuts_are_what_lhotse_itself_would_write() -> None:
    objects = InMemoryObjects()
    snapshot = _write(objects, ROW, replace(ROW, id="b", split="dev"))
    lines = gzip.decompress(objects.get(f"{snapshot.uri}/cuts.jsonl.gz")).splitlines()
    cuts = list(snapshot.cuts())
    assert [cut.to_dict() for cut in cuts] == [json.loads(line) for line in lines]
    assert cuts[0].recording.sources[0].source == ROW.audio_uri
    assert cuts[0].supervisions[0].text == ROW.text
    assert cuts[0].num_samples == 16_000
    assert [cut.id for cut in snapshot.cuts("dev")] == ["b"]


def test_a_snapshot_without_manifest_is_none() -> None:
    objects = InMemoryObjects()
    snapshot = _write(objects, ROW)
    objects.delete(f"{snapshot.uri}/manifest.json")
    with pytest.raises(NotFound, match=snapshot.digest[:12]):
        open_snapshot(snapshot.digest, objects, BUCKET)


@pytest.mark.parametrize("name", ["manifest.json", "cuts.jsonl.gz", "quarantine.jsonl"])
@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "replaced"])
def test_damage_is_noticed(name: str, damage: str) -> None:
    objects = InMemoryObjects()
    snapshot = _write(objects, ROW)
    uri = f"{snapshot.uri}/{name}"
    body = objects.get(uri)
    bad = {
        "flipped bit": body[:20] + bytes([body[20] ^ 1]) + body[21:],
        "truncated": body[:-5],
        "replaced": gzip.compress(b"{}") if name.endswith("gz") else b"{}",
    }[damage]
    objects.put(uri, bad)
    with pytest.raises(IntegrityError, match=name):
        _read_all(snapshot.digest, objects)


def _read_all(digest: str, objects: InMemoryObjects) -> None:
    snapshot = open_snapshot(digest, objects, BUCKET)
    snapshot.rows()
    snapshot.quarantine()


def test_audio_is_fetched_once_and_verified_each_time(tmp_path: Path) -> None:
    objects = InMemoryObjects()
    objects.put(ROW.audio_uri, FLAC)
    path = local_audio(ROW, objects, tmp_path)
    assert path.read_bytes() == FLAC
    objects.delete(ROW.audio_uri)
    assert local_audio(ROW, objects, tmp_path) == path
    path.write_bytes(FLAC[:-1])
    with pytest.raises(NotFound):
        local_audio(ROW, objects, tmp_path)
    objects.put(ROW.audio_uri, FLAC)
    assert local_audio(ROW, objects, tmp_path).read_bytes() == FLAC


def test_audio_that_was_changed_in_the_store_is_refused_and_not_kept(tmp_path: Path) -> None:
    objects = InMemoryObjects()
    objects.put(ROW.audio_uri, FLAC + b"x")
    with pytest.raises(IntegrityError, match=ROW.audio_digest[:12]):
        local_audio(ROW, objects, tmp_path)
    assert not list(tmp_path.rglob("*.flac"))
