from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop import audio, exchange, streamed
from hearloop.datasets import CutRow, Snapshot, audio_uri, write_snapshot
from hearloop.errors import IntegrityError
from hearloop.features import MEL_BINS, log_mel
from hearloop.quality import Quality
from hearloop.testing import InMemoryObjects
from hearloop.training.batches import BatchPlan

ROW = CutRow(
    id="", split="train", text="", speaker="ann", call=None, accent=None, language="en",
    source="folder", contributor=None, correction=None,
    recorded_at=datetime(2024, 1, 1, tzinfo=UTC), seconds=0.0, sample_rate=16_000,
    audio_digest="", audio_uri="",
    quality=Quality(
        duration_s=1.0, snr_db=20.0, bandwidth_hz=8e3, loudness_dbfs=-26.0, clipping=0.0,
        silence=0.1,
    ),
)  # fmt: skip


class Counting(InMemoryObjects):
    """Remembers what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def get(self, uri: str) -> bytes:
        self.read.append(uri)
        return super().get(uri)


@pytest.fixture
def objects() -> Counting:
    return Counting()


@pytest.fixture
def snapshot(objects: Counting, monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    """48 recordings in shards of 4; every sixth is for development, one is for tests."""
    monkeypatch.setattr(exchange, "_SHARD", 4)
    rng, rows = np.random.default_rng(0), []
    for number in range(48):
        length = 4_000 + 37 * number
        flac = audio.encode_flac(rng.uniform(-0.5, 0.5, length).astype(np.float32))
        uri = audio_uri("snapshots", audio.digest(flac))
        objects.put(uri, flac)
        split = "test" if number == 47 else "dev" if number % 6 == 0 else "train"
        row = replace(ROW, id=f"u{number:02d}", text=f"number {number}", split=split)
        rows.append(
            replace(row, seconds=length / 16_000, audio_digest=audio.digest(flac), audio_uri=uri)
        )
    return write_snapshot(rows, [], recipe=[], objects=objects, bucket="snapshots")


def test_features_are_those_of_the_recordings_and_come_when_asked_for(
    snapshot: Snapshot, objects: Counting, tmp_path: Path
) -> None:
    uri = streamed.extract(snapshot, objects=objects, bucket="artifacts", cache=tmp_path)
    assert streamed.is_streamed(uri)
    objects.read.clear()
    found = {one.id: one for one in streamed.read(uri, objects, bins=MEL_BINS)}
    assert not [name for name in objects.read if name.endswith(".tar")]
    rows = {row.id: row for row in snapshot.rows() if row.split != "test"}
    assert found.keys() == rows.keys()
    for name, row in rows.items():
        matrix = log_mel(audio.decode(objects.get(row.audio_uri)).samples)
        assert (found[name].text, found[name].split) == (row.text, row.split)
        assert found[name].features.shape == matrix.shape
        np.testing.assert_array_equal(found[name].features.astype(np.float32), matrix)


def test_few_shards_are_held_and_no_copy_is_left(
    snapshot: Snapshot, objects: Counting, tmp_path: Path
) -> None:
    uri = streamed.extract(snapshot, objects=objects, bucket="artifacts", cache=tmp_path)
    assert not list(tmp_path.iterdir())
    found = list(streamed.read(uri, objects, bins=MEL_BINS))
    objects.read.clear()
    for _ in range(2):
        for one in found:
            one.features.astype(np.float32)
    tars = [name for name in objects.read if name.endswith(".tar")]
    assert len(tars) == 2 * len(set(tars)) == 24  # more than are held, so each came twice
    shards = found[0].features._shards
    assert len(shards._held) == 2 * streamed.SHARDS_TOGETHER


def test_a_shard_that_was_changed_is_refused(
    snapshot: Snapshot, objects: Counting, tmp_path: Path
) -> None:
    uri = streamed.extract(snapshot, objects=objects, bucket="artifacts", cache=tmp_path)
    found = next(iter(streamed.read(uri, objects, bins=MEL_BINS)))
    name = next(name for name in objects.list("s3://artifacts/shar/") if name.endswith(".tar"))
    for name in objects.list("s3://artifacts/shar/"):
        if name.endswith(".tar"):
            objects.put(name, b"damaged")
    with pytest.raises(IntegrityError, match="not what its manifest says"):
        found.features.astype(np.float32)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.lists(st.integers(20, 400), min_size=1, max_size=120),
    st.integers(1, 15),
    st.integers(0, 3),
)
def test_each_epoch_hears_each_utterance_once_and_few_shards_at_a_time(
    lengths: list[int], count: int, seed: int
) -> None:
    shards = [index % count if index % 7 else None for index in range(len(lengths))]
    plan = BatchPlan(lengths, frames=500, seed=seed, shards=shards)
    again = BatchPlan(lengths, frames=500, seed=seed, shards=shards)
    step, heard, recent = 0, [], []
    while len(heard) < len(lengths):
        batch = plan.batch(step)
        assert batch == again.batch(step)
        heard += batch
        recent.append({shards[index] for index in batch} - {None})
        step += 1
    assert sorted(heard) == list(range(len(lengths)))
    # Whoever holds the shards of one window and of the next reads none of them twice.
    held: list[int | None] = []
    misses = 0
    for needed in recent:
        for shard in needed:
            misses += shard not in held
            held = [one for one in held if one != shard] + [shard]
            held = held[-2 * streamed.SHARDS_TOGETHER :]
    assert misses == len({shard for shard in shards if shard is not None})
