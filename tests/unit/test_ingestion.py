import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from hearloop import audio, datasets
from hearloop.config import Settings
from hearloop.datasets import Snapshot, open_snapshot
from hearloop.errors import InvalidTranscript, NotFound, ServiceUnavailable
from hearloop.ingestion import ingest
from hearloop.recipe import Cleaning, FolderCorpus, PerSplit, SyntheticCorpus
from hearloop.testing import InMemoryObjects

SETTINGS = Settings()
BUCKET = SETTINGS.buckets.snapshots


@dataclass
class DyingObjects(InMemoryObjects):
    """A store whose client is killed at its n-th write, before or after the write is done."""

    dies_at: int
    after: bool
    writes: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        super().__init__()

    def _dies(self) -> bool:
        return next(self.writes) == self.dies_at

    def put(self, uri: str, body: bytes, *, content_type: str = "") -> None:
        dies = self._dies()
        if not dies or self.after:
            super().put(uri, body)
        if dies:
            raise ServiceUnavailable("killed")

    def create(self, uri: str, body: bytes, *, content_type: str = "") -> bool:
        dies = self._dies()
        wrote = super().create(uri, body) if not dies or self.after else False
        if dies:
            raise ServiceUnavailable("killed")
        return wrote


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three utterances by three speakers, and four rows that are none."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, str]] = []
    for number in range(3):
        samples = rng.normal(0, 0.05, 16_000).astype(np.float32)
        (tmp_path / f"{number}.flac").write_bytes(audio.encode_flac(samples))
        rows.append(
            {"audio": f"{number}.flac", "text": f"Number {number}", "speaker": f"s{number}"}
        )
    (tmp_path / "noise.wav").write_bytes(b"not audio at all")
    (tmp_path / "click.flac").write_bytes(audio.encode_flac(np.ones(100, np.float32)))
    rows.append({"audio": "noise.wav", "text": "hello"})
    rows.append({"audio": "click.flac", "text": "hello"})
    rows.append({"audio": "1.flac", "text": "[laughter]", "id": "laughter"})
    rows.append({"audio": "2.flac", "text": "again", "id": "0"})
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _ingest(manifest: Path, objects: InMemoryObjects) -> Snapshot:
    return ingest([FolderCorpus(location=str(manifest))], objects=objects, settings=SETTINGS)


def test_good_utterances_are_kept_and_bad_ones_quarantined_with_their_reason(
    manifest: Path,
) -> None:
    objects = InMemoryObjects()
    snapshot = _ingest(manifest, objects)
    assert [row.text for row in snapshot.rows()] == ["number zero", "number one", "number two"]
    reasons = {one.id: one.reason for one in snapshot.quarantine()}
    assert list(reasons) == ["noise", "click", "laughter", "0"]
    assert "no format that we know" in reasons["noise"]
    assert "0.006 s" in reasons["click"]
    assert "[laughter]" in reasons["laughter"]
    assert "occurs before" in reasons["0"]


def test_what_two_corpora_call_the_same_stays_two_utterances(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    recordings = [rng.normal(0, 0.05, 16_000).astype(np.float32) for _ in range(2)]

    def folder(name: str, recording: int) -> FolderCorpus:
        place = tmp_path / name
        place.mkdir()
        (place / "manifest.jsonl").write_text('{"audio": "utt1.flac", "text": "yes"}\n')
        (place / "utt1.flac").write_bytes(audio.encode_flac(recordings[recording]))
        return FolderCorpus(location=str(place / "manifest.jsonl"))

    objects = InMemoryObjects()
    one, other, copied = folder("one", 0), folder("other", 1), folder("copied", 0)
    snapshot = ingest([one, other, copied], objects=objects, settings=SETTINGS)

    rows = snapshot.rows()
    assert [row.id for row in rows] == [f"utt1-{row.audio_digest[:8]}" for row in rows]
    assert len({row.id for row in rows}) == 2
    assert [one.id for one in snapshot.quarantine()] == ["utt1"]
    apart = ingest([other], objects=objects, settings=SETTINGS)
    assert apart.rows()[0].id == rows[1].id


def test_audio_is_stored_under_its_digest_at_16_khz(manifest: Path) -> None:
    objects = InMemoryObjects()
    for row in _ingest(manifest, objects).rows():
        body = objects.get(row.audio_uri)
        assert audio.digest(body) == row.audio_digest
        assert audio.decode(body).source_rate == row.sample_rate == 16_000
        assert row.quality.duration_s == row.seconds == 1.0


def test_ingesting_twice_gives_the_same_snapshot_and_nothing_new(manifest: Path) -> None:
    objects = InMemoryObjects()
    first = _ingest(manifest, objects)
    stored = {uri: objects.get(uri) for uri in objects.list(f"s3://{BUCKET}/")}
    again = _ingest(manifest, objects)
    assert first == again
    assert stored == {uri: objects.get(uri) for uri in objects.list(f"s3://{BUCKET}/")}


WRITES = 7
"""Of one ingestion: three recordings and one again, cuts, quarantine, manifest."""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies_at", range(1, WRITES + 1))
def test_killed_at_any_write_and_run_again_it_converges(
    manifest: Path, dies_at: int, after: bool
) -> None:
    expected = _ingest(manifest, InMemoryObjects())
    objects = DyingObjects(dies_at=dies_at, after=after)
    with pytest.raises(ServiceUnavailable, match="killed"):
        _ingest(manifest, objects)
    if objects.exists(f"{expected.uri}/manifest.json"):
        assert open_snapshot(expected.digest, objects, BUCKET).rows() == expected.rows()
    else:
        with pytest.raises(NotFound):
            open_snapshot(expected.digest, objects, BUCKET)
    again = _ingest(manifest, objects)
    assert again.digest == expected.digest
    assert again.rows() == expected.rows()
    assert again.quarantine() == expected.quarantine()


def test_the_last_write_is_the_manifest(manifest: Path) -> None:
    objects = DyingObjects(dies_at=WRITES, after=False)
    with pytest.raises(ServiceUnavailable):
        _ingest(manifest, objects)
    snapshots = list(objects.list(f"s3://{BUCKET}/snapshots/"))
    assert [uri.rpartition("/")[2] for uri in snapshots] == ["cuts.jsonl.gz", "quarantine.jsonl"]


def test_several_corpora_become_one_snapshot_and_progress_is_told(manifest: Path) -> None:
    class Count:
        done = 0.0

        def advance(self, amount: float = 1.0) -> None:
            self.done += amount

    calls = SyntheticCorpus(
        seed=1,
        speakers=PerSplit(train=1, dev=0, test=1),
        utterances_per_speaker=PerSplit(train=2, dev=0, test=1),
    )
    told = Count()
    snapshot = ingest(
        [calls, FolderCorpus(location=str(manifest))],
        objects=InMemoryObjects(),
        settings=SETTINGS,
        progress=told,
    )
    rows = snapshot.rows()
    assert [row.source for row in rows] == ["synthetic"] * 3 + ["folder"] * 3
    assert told.done == len(rows) + len(snapshot.quarantine()) == 10
    assert [corpus["kind"] for corpus in snapshot.manifest["recipe"]] == ["synthetic", "folder"]


def test_ingestion_loads_neither_torch_nor_lhotse() -> None:
    names = "hearloop.ingestion", datasets.__name__, "hearloop.quality", "hearloop.corpora"
    code = (
        f"import sys, {', '.join(names)}; sys.exit(bool({{'torch', 'lhotse'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_recipe_s_language_is_kept_and_another_one_quarantined(tmp_path: Path) -> None:
    rows = [("Perché no? 2", None), ("È qui.", "it-IT"), ("Why not", "en")]
    rng, lines = np.random.default_rng(0), []
    for number, (text, language) in enumerate(rows):
        samples = rng.normal(0, 0.05, 8_000).astype(np.float32)
        (tmp_path / f"{number}.flac").write_bytes(audio.encode_flac(samples))
        row = {"audio": f"{number}.flac", "text": text, "language": language, "split": "train"}
        lines.append(json.dumps(row))
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(lines))
    objects, corpus = InMemoryObjects(), FolderCorpus(location=str(path))
    snapshot = ingest([corpus], objects=objects, settings=SETTINGS, language="it")
    kept = [(row.text, row.language) for row in snapshot.rows()]
    assert kept == [("perché no due", "it"), ("è qui", "it-IT")]
    (refused,) = snapshot.quarantine()
    assert "is in 'en' and the recipe in 'it'" in refused.reason
    assert snapshot.manifest["language"] == "it"
    with pytest.raises(InvalidTranscript, match="'xx'"):
        ingest([corpus], objects=objects, settings=SETTINGS, language="xx")


def test_what_is_cleaned_is_another_snapshot(tmp_path: Path, manifest: Path) -> None:
    objects, corpora = InMemoryObjects(), [FolderCorpus(location=str(manifest))]
    plain = ingest(corpora, objects=objects, settings=SETTINGS)
    cleaning = Cleaning(trim_silence=True)
    cleaned = ingest(corpora, objects=objects, settings=SETTINGS, cleaning=cleaning)
    assert plain.digest == ingest(corpora, objects=objects, settings=SETTINGS).digest
    assert cleaned.digest != plain.digest
    assert cleaned.manifest["cleaning"] == {"reduce_noise": False, "trim_silence": True}
