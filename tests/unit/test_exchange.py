import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop import audio
from hearloop.corpora import Rejected, Utterance
from hearloop.corpora.folder import utterances
from hearloop.datasets import CutRow, Snapshot, audio_uri, write_snapshot
from hearloop.errors import ConfigurationError, InvalidInput
from hearloop.exchange import FORMATS, Format, export
from hearloop.quality import Quality
from hearloop.recipe import FolderCorpus
from hearloop.testing import InMemoryObjects

BUCKET = "snapshots"
QUALITY = Quality(
    duration_s=1.0, snr_db=20.0, bandwidth_hz=8e3, loudness_dbfs=-26.0, clipping=0.0, silence=0.1
)
NAMES = st.text("abcàñй0123-_.", min_size=1, max_size=8).filter(lambda name: name.strip("."))
ROWS = st.builds(
    CutRow,
    id=NAMES,
    split=st.sampled_from(["train", "dev", "test"]),
    text=st.text("abcàéñüœбй'", min_size=1, max_size=12),
    speaker=NAMES,
    call=st.none() | NAMES,
    accent=st.none() | NAMES,
    language=st.sampled_from(["en", "it", "es-MX", "ru"]),
    source=st.just("folder"),
    contributor=st.none(),
    correction=st.none(),
    recorded_at=st.integers(0, 10**6).map(
        lambda seconds: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    ),
    seconds=st.just(0.0),
    sample_rate=st.just(16_000),
    audio_digest=st.integers(5_000, 9_000).map(str),
    audio_uri=st.just(""),
    quality=st.just(QUALITY),
)


def stored(row: CutRow, objects: InMemoryObjects) -> CutRow:
    """The row with noise of a length of its own for audio."""
    rng = np.random.default_rng(int(row.audio_digest))
    flac = audio.encode_flac(rng.uniform(-0.5, 0.5, int(row.audio_digest)).astype(np.float32))
    digest = audio.digest(flac)
    objects.put(audio_uri(BUCKET, digest), flac)
    return replace(
        row,
        seconds=int(row.audio_digest) / 16_000,
        audio_digest=digest,
        audio_uri=audio_uri(BUCKET, digest),
    )


def snapshot_of(rows: list[CutRow], objects: InMemoryObjects) -> Snapshot:
    kept = [stored(row, objects) for row in rows]
    return write_snapshot(kept, [], recipe=[], objects=objects, bucket=BUCKET)


def read(location: str, objects: InMemoryObjects) -> dict[str, Utterance]:
    found: Iterator[Utterance | Rejected] = utterances(
        FolderCorpus(location=location), objects=objects
    )
    every = {one.id: one for one in found}
    assert not [one for one in every.values() if isinstance(one, Rejected)]
    return {name: one for name, one in every.items() if isinstance(one, Utterance)}


@pytest.mark.parametrize("form", FORMATS)
@settings(deadline=None, derandomize=True, max_examples=8)
@given(
    rows=st.lists(ROWS, min_size=1, max_size=5, unique_by=lambda row: row.id),
    remote=st.booleans(),
)
def test_what_is_written_comes_back(
    form: Format, rows: list[CutRow], remote: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, objects = tmp_path_factory.mktemp("export"), InMemoryObjects()
    snapshot = snapshot_of(rows, objects)
    target = "s3://elsewhere/export" if remote else str(folder / "out")
    written = export(snapshot, form, target, objects=objects, cache=folder / "cache")
    assert written == len(rows)
    found = read(target, objects)
    assert found.keys() == {row.id for row in rows}
    for row in snapshot.rows():
        one = found[row.id]
        assert (one.text, one.speaker, one.split) == (row.text, row.speaker, row.split)
        heard = audio.decode(one.audio).samples
        np.testing.assert_array_equal(heard, audio.decode(objects.get(row.audio_uri)).samples)
        if form != "kaldi":  # whose files have no place for the rest
            assert (one.call, one.accent, one.language) == (row.call, row.accent, row.language)
            assert one.recorded_at == row.recorded_at


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_lhotse_itself_reads_what_is_written(tmp_path: Path) -> None:
    from lhotse import CutSet  # which leaves the tar file open

    objects = InMemoryObjects()
    rows = [replace(ROW, id=f"utt{n}", audio_digest=str(6000 + n)) for n in range(3)]
    snapshot = snapshot_of(rows, objects)
    for form in ("lhotse", "shar"):
        export(snapshot, form, str(tmp_path / form), objects=objects, cache=tmp_path)
    eager = CutSet.from_file(tmp_path / "lhotse/cuts_train.jsonl.gz")
    lazy = CutSet.from_shar(in_dir=tmp_path / "shar/train")
    expected = {row.id: audio.decode(objects.get(row.audio_uri)).samples for row in snapshot.rows()}
    for cuts in (eager, lazy):
        heard = {cut.id: cut.load_audio()[0] for cut in cuts}
        assert heard.keys() == expected.keys()
        for name, samples in heard.items():
            np.testing.assert_allclose(samples, expected[name], atol=1e-6)


ROW = CutRow(
    id="utt", split="train", text="ciao", speaker="ann", call=None, accent=None, language="it",
    source="folder", contributor=None, correction=None,
    recorded_at=datetime(2024, 1, 1, tzinfo=UTC), seconds=0.5,
    sample_rate=16_000, audio_digest="8000", audio_uri="", quality=QUALITY,
)  # fmt: skip


def test_kaldi_cannot_hold_a_space_in_a_name(tmp_path: Path) -> None:
    objects = InMemoryObjects()
    snapshot = snapshot_of([replace(ROW, speaker="ann lee")], objects)
    with pytest.raises(InvalidInput, match="'ann lee' holds one"):
        export(snapshot, "kaldi", str(tmp_path), objects=objects, cache=tmp_path)


def _recording(folder: Path, seconds: float = 2.0) -> None:
    rng = np.random.default_rng(0)
    samples = rng.uniform(-0.5, 0.5, round(seconds * 16_000)).astype(np.float32)
    (folder / "long.flac").write_bytes(audio.encode_flac(samples))


def test_a_part_of_a_recording_is_cut_by_nemo_s_offset(tmp_path: Path) -> None:
    _recording(tmp_path)
    row = {"audio_filepath": "long.flac", "offset": 0.5, "duration": 1.0, "text": "ciao", "id": "a"}
    (tmp_path / "manifest.json").write_text(json.dumps(row))
    one = read(str(tmp_path / "manifest.json"), InMemoryObjects())["a"]
    whole = audio.decode((tmp_path / "long.flac").read_bytes()).samples
    np.testing.assert_array_equal(audio.decode(one.audio).samples, whole[8_000:24_000])


def test_lhotse_s_supervisions_are_joined_with_their_recordings(tmp_path: Path) -> None:
    _recording(tmp_path)
    recording = {
        "id": "long",
        "sources": [{"type": "file", "channels": [0], "source": "long.flac"}],
        "sampling_rate": 16_000, "num_samples": 32_000, "duration": 2.0, "channel_ids": [0],
    }  # fmt: skip
    said = [
        {"id": f"s{n}", "recording_id": "long", "start": n * 0.5, "duration": 0.5, "channel": 0,
         "text": f"number {n}", "speaker": "ann"}
        for n in range(3)
    ]  # fmt: skip
    lines = "\n".join(map(json.dumps, said)).encode()
    (tmp_path / "x_supervisions_all.jsonl.gz").write_bytes(gzip.compress(lines))
    body = gzip.compress(json.dumps(recording).encode())
    (tmp_path / "x_recordings_all.jsonl.gz").write_bytes(body)
    found = read(str(tmp_path / "x_supervisions_all.jsonl.gz"), InMemoryObjects())
    assert [one.text for one in found.values()] == ["number 0", "number 1", "number 2"]
    assert {len(audio.decode(one.audio).samples) for one in found.values()} == {8_000}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"recording": None}, "has no recording"),
        ({"supervisions": []}, "nothing is said"),
        ({"source": {"type": "command", "channels": [0], "source": "rm -rf ."}}, "only files"),
        ({"source": {"type": "file", "channels": [0, 1], "source": "x"}}, "several channels"),
        ({"source": {"type": "file", "channels": [0], "source": "gone.flac"}}, "cannot be read"),
        ({"duration": "long"}, "no numbers"),
        ({"supervisions": 3}, "none of lhotse's"),
        ({"text": 3}, "has no text"),
    ],
)
def test_a_cut_that_cannot_be_used_is_rejected_with_its_reason(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    said = {"id": "a", "text": change.pop("text", "ciao")}
    source = change.pop("source", {"type": "file", "channels": [0], "source": "long.flac"})
    cut = {
        "id": "a", "start": 0, "duration": 1.0, "channel": 0, "type": "MonoCut",
        "recording": {"id": "a", "sources": [source], "duration": 1.0},
        "supervisions": [said],
    } | change  # fmt: skip
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut))
    corpus = FolderCorpus(location=str(tmp_path / "cuts.jsonl"))
    (one,) = utterances(corpus, objects=InMemoryObjects())
    assert isinstance(one, Rejected)
    assert reason in one.reason


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.text(max_size=30) | st.dictionaries(st.sampled_from(["id", "recording", "supervisions",
    "start", "text"]), st.none() | st.integers() | st.text() | st.lists(st.none() | st.text()))
    .map(json.dumps))  # fmt: skip
def test_no_manifest_of_cuts_stops_an_ingestion(line: str) -> None:
    objects = InMemoryObjects()
    objects.put("s3://bucket/cuts.jsonl", line.encode("utf-8", errors="replace"))
    corpus = FolderCorpus(location="s3://bucket/cuts.jsonl")
    assert all(isinstance(one, Rejected) for one in utterances(corpus, objects=objects))


def test_a_shard_whose_audio_is_another_s_is_noticed(tmp_path: Path) -> None:
    objects = InMemoryObjects()
    export(snapshot_of([ROW], objects), "shar", str(tmp_path), objects=objects, cache=tmp_path)
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("other.flac"), io.BytesIO())
    (tmp_path / "train/recording.000000.tar").write_bytes(body.getvalue())
    (one,) = utterances(FolderCorpus(location=str(tmp_path)), objects=objects)
    assert isinstance(one, Rejected)
    assert "where the audio of utt should be" in one.reason


def test_a_folder_that_holds_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="lhotse Shar's"):
        list(utterances(FolderCorpus(location=str(tmp_path)), objects=InMemoryObjects()))
