from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from hearloop import audio, feature_archive
from hearloop.datasets import CutRow, Snapshot, audio_uri, write_snapshot
from hearloop.errors import IntegrityError, NotFound
from hearloop.features import log_mel
from hearloop.quality import Quality
from hearloop.testing import InMemoryObjects

BUCKET = "snapshots"


class Counted:
    """A Progress that can be read."""

    done = 0.0

    def advance(self, amount: float = 1.0) -> None:
        self.done += amount


def row(number: int, samples: np.ndarray, objects: InMemoryObjects) -> CutRow:
    body = audio.encode_flac(samples)
    digest = audio.digest(body)
    objects.put(audio_uri(BUCKET, digest), body)
    return CutRow(
        id=f"call-{number}",
        split=("train", "dev", "test")[number % 3],
        text=f"text {number}",
        speaker="ann",
        call=None,
        accent=None,
        language="en",
        source="folder",
        contributor=None,
        correction=None,
        recorded_at=datetime(2024, 1, 1, tzinfo=UTC),
        seconds=len(samples) / 16_000,
        sample_rate=16_000,
        audio_digest=digest,
        audio_uri=audio_uri(BUCKET, digest),
        quality=Quality(
            duration_s=1.0,
            snr_db=20.0,
            bandwidth_hz=8e3,
            loudness_dbfs=-26.0,
            clipping=0.0,
            silence=0.1,
        ),
    )


@pytest.fixture
def objects() -> InMemoryObjects:
    return InMemoryObjects()


@pytest.fixture
def recordings() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.1, 8000 + 1000 * n).astype(np.float32) for n in range(7)]


@pytest.fixture
def snapshot(objects: InMemoryObjects, recordings: list[np.ndarray]) -> Snapshot:
    rows = [row(number, samples, objects) for number, samples in enumerate(recordings)]
    return write_snapshot(rows, [], recipe=[], objects=objects, bucket=BUCKET)


def test_what_is_read_is_what_was_said(
    snapshot: Snapshot,
    objects: InMemoryObjects,
    recordings: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feature_archive, "_SHARD_UTTERANCES", 2)
    progress = Counted()
    uri = feature_archive.extract(
        snapshot, objects=objects, bucket="features", cache=tmp_path, progress=progress
    )
    utterances = list(feature_archive.read(feature_archive.fetch(uri, objects, tmp_path)))
    assert progress.done == len(utterances) == 5  # the test split is not for training
    for utterance in utterances:
        number = int(utterance.id.removeprefix("call-"))
        assert utterance.text == f"text {number}"
        assert utterance.split == ("train", "dev")[number % 3]
        expected = log_mel(recordings[number])
        assert utterance.features.shape == expected.shape
        # 16 bit audio and 16 bit features: what they round away is far below speech's variety.
        assert np.abs(utterance.features - expected).mean() < 0.02


def test_samples_for_networks_that_take_them(
    snapshot: Snapshot, objects: InMemoryObjects, recordings: list[np.ndarray], tmp_path: Path
) -> None:
    options = {"objects": objects, "bucket": "features", "cache": tmp_path}
    uri = feature_archive.extract(snapshot, samples=True, **options)
    assert uri != feature_archive.extract(snapshot, **options)
    for one in feature_archive.read(feature_archive.fetch(uri, objects, tmp_path)):
        said = recordings[int(one.id.removeprefix("call-"))]
        assert one.features.shape == (round(len(said) / 160), 160)
        whole = one.features.ravel()[: len(said)]
        np.testing.assert_allclose(whole, said[: len(whole)], atol=1e-3)


def test_an_archive_is_made_once(
    snapshot: Snapshot, objects: InMemoryObjects, tmp_path: Path
) -> None:
    options = {"objects": objects, "bucket": "features"}
    uri = feature_archive.extract(snapshot, cache=tmp_path / "one", **options)
    again = Counted()
    assert (
        feature_archive.extract(snapshot, cache=tmp_path / "two", progress=again, **options) == uri
    )
    assert again.done == 0
    assert snapshot.digest in uri


def test_without_its_manifest_there_is_no_archive(
    snapshot: Snapshot, objects: InMemoryObjects, tmp_path: Path
) -> None:
    """Cut off before the last write and run again, it ends with the same objects."""
    uri = feature_archive.extract(snapshot, objects=objects, bucket="features", cache=tmp_path)
    before = objects.get(uri)
    objects.delete(uri)
    with pytest.raises(NotFound):
        feature_archive.fetch(uri, objects, tmp_path)
    feature_archive.extract(snapshot, objects=objects, bucket="features", cache=tmp_path)
    assert objects.get(uri) == before


def test_changed_shards_are_refused_and_damaged_copies_fetched_again(
    snapshot: Snapshot, objects: InMemoryObjects, tmp_path: Path
) -> None:
    uri = feature_archive.extract(snapshot, objects=objects, bucket="features", cache=tmp_path)
    (copy,) = feature_archive.fetch(uri, objects, tmp_path)
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-1])
    with pytest.raises(IntegrityError, match="cannot be read"):
        list(feature_archive.read([copy]))
    assert feature_archive.fetch(uri, objects, tmp_path)[0].read_bytes() == whole
    objects.put(uri.replace("manifest.json", "shard-00000.safetensors"), whole[:-1])
    with pytest.raises(IntegrityError, match="extract again"):
        feature_archive.fetch(uri, objects, tmp_path / "elsewhere")


def test_other_audio_than_the_snapshot_s_is_refused(
    snapshot: Snapshot, objects: InMemoryObjects, tmp_path: Path
) -> None:
    first = snapshot.rows()[0]
    objects.put(first.audio_uri, audio.encode_flac(np.zeros(100, np.float32)))
    with pytest.raises(IntegrityError):
        feature_archive.extract(snapshot, objects=objects, bucket="features", cache=tmp_path)
