import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.audio import encode_flac
from hearloop.corpora import Rejected, Utterance
from hearloop.corpora.folder import utterances
from hearloop.errors import ConfigurationError
from hearloop.recipe import FolderCorpus
from hearloop.testing import InMemoryObjects

FLAC = encode_flac(np.zeros(8_000, np.float32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.flac").write_bytes(FLAC)
    return tmp_path


def _read(
    location: Path | str, objects: InMemoryObjects | None = None
) -> list[Utterance | Rejected]:
    corpus = FolderCorpus(location=str(location))
    return list(utterances(corpus, objects=objects or InMemoryObjects()))


def _csv(folder: Path, text: str) -> list[Utterance | Rejected]:
    (folder / "manifest.csv").write_text(text)
    return _read(folder / "manifest.csv")


def _reason(found: Utterance | Rejected) -> str:
    assert isinstance(found, Rejected)
    return found.reason


def test_every_column_of_a_manifest_is_taken(folder: Path) -> None:
    (one,) = _csv(
        folder,
        "audio,text,id,speaker,split,call,accent,language,recorded_at\n"
        "clips/a.flac,Hello there,u/1,ann,dev,c1,en-gb,en-GB,2024-05-01T12:00:00+02:00\n",
    )
    assert isinstance(one, Utterance)
    assert one == Utterance(
        id="u-1",
        audio=FLAC,
        text="Hello there",
        speaker="ann",
        split="dev",
        call="c1",
        accent="en-gb",
        language="en-GB",
        recorded_at=datetime(2024, 5, 1, 10, tzinfo=UTC),
    )


def test_audio_and_text_are_enough(folder: Path) -> None:
    (one,) = _csv(folder, "audio,text\nclips/a.flac,hello\n")
    assert isinstance(one, Utterance)
    assert (one.id, one.speaker, one.language) == ("clips-a", "clips/a", None)
    assert one.recorded_at.tzinfo is not None


def test_json_lines_say_the_same_as_csv(folder: Path) -> None:
    row = {"audio": "clips/a.flac", "text": "hello", "speaker": "ann", "call": None, "other": 3}
    (folder / "manifest.jsonl").write_text(json.dumps(row) + "\n\n")
    assert _read(folder / "manifest.jsonl") == _csv(
        folder, "audio,text,speaker\nclips/a.flac,hello,ann\n"
    )


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(folder: Path) -> None:
    assert _csv(folder, "\ufeffaudio,text\r\nclips/a.flac,hello\r\n") == _csv(
        folder, "audio,text\nclips/a.flac,hello\n"
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("clips/b.flac,hello,", "clips/b.flac cannot be read"),
        (",hello,", "no 'audio'"),
        ("clips/a.flac,,", "no 'text'"),
        ("clips/a.flac,hello,holdout", "split 'holdout'"),
        ("clips/a.flac,hello,dev,more", "more fields"),
        (f"{'x' * 5000}.flac,hello,", "cannot be read"),
        ("clips,hello,", "cannot be read"),
    ],
)
def test_a_row_that_cannot_be_used_is_rejected_and_the_next_is_read(
    folder: Path, row: str, reason: str
) -> None:
    bad, good = _csv(folder, f"audio,text,split\n{row}\nclips/a.flac,hello,train\n")
    assert reason in _reason(bad)
    assert isinstance(good, Utterance)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "no JSON"),
        ("[1]", "no JSON object"),
        ('{"audio": 3, "text": "x"}', "'audio' is no text"),
        ('{"audio": "clips/a.flac", "text": "\\ud800"}', "'text' is no text"),
        ('{"audio": "clips/a.flac", "text": "x", "recorded_at": "now"}', "write ISO 8601"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_line_that_is_no_row_is_rejected_with_its_number(
    folder: Path, line: str, reason: str
) -> None:
    path = folder / "m.jsonl"
    path.write_text(f'{{"audio": "clips/a.flac", "text": "x"}}\n{line}\n')
    good, bad = _read(path)
    assert isinstance(good, Utterance)
    assert reason in _reason(bad)
    assert "m.jsonl:2" in (bad.id + _reason(bad))


def test_a_speaker_is_in_one_split_and_all_splits_are_used(folder: Path) -> None:
    rows = "".join(f"clips/a.flac,hello,s{number % 50}\n" for number in range(150))
    found = _csv(folder, "audio,text,speaker\n" + rows)
    splits: dict[str, set[str]] = {}
    for one in found:
        assert isinstance(one, Utterance)
        splits.setdefault(one.speaker, set()).add(one.split)
    assert all(len(of_speaker) == 1 for of_speaker in splits.values())
    assert set.union(*splits.values()) == {"train", "dev", "test"}


def test_a_manifest_in_object_storage_reads_only_from_there(folder: Path) -> None:
    objects = InMemoryObjects()
    objects.put("s3://speech/batch/a.flac", FLAC)
    objects.put("s3://other/a.flac", FLAC)
    lines = [
        {"audio": "a.flac", "text": "one"},
        {"audio": "s3://other/a.flac", "text": "two"},
        {"audio": str(folder / "clips" / "a.flac"), "text": "three"},
    ]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    objects.put("s3://speech/batch/manifest.jsonl", body)
    first, second, local = _read("s3://speech/batch/manifest.jsonl", objects)
    assert isinstance(first, Utterance)
    assert isinstance(second, Utterance)
    assert "Nothing is stored" in _reason(local)


def test_a_recording_without_header_is_told_by_its_suffix(folder: Path) -> None:
    (folder / "clips" / "a.g722").write_bytes(bytes(4_000))
    (one,) = _csv(folder, "audio,text\nclips/a.g722,hello\n")
    assert isinstance(one, Utterance)
    assert one.audio.startswith(b"fLaC")


def test_gigantic_files_are_rejected_without_being_read(folder: Path) -> None:
    with (folder / "clips" / "big.wav").open("wb") as file:
        file.truncate(2**33)
    (one,) = _csv(folder, "audio,text\nclips/big.wav,hello\n")
    assert "cut it into utterances" in _reason(one)


@pytest.mark.parametrize("location", ["missing.csv", "missing", "s3://bucket/missing.jsonl"])
def test_a_location_without_speech_is_named(tmp_path: Path, location: str) -> None:
    where = location if location.startswith("s3://") else tmp_path / location
    with pytest.raises(ConfigurationError, match="missing"):
        _read(where)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.sampled_from(["csv", "jsonl"]), st.binary(max_size=200) | st.text().map(str.encode))
def test_an_arbitrary_manifest_never_stops_the_reading(kind: str, body: bytes) -> None:
    objects = InMemoryObjects()
    header = b"audio,text,speaker\n" if kind == "csv" else b""
    objects.put(f"s3://speech/m.{kind}", header + body)
    for one in _read(f"s3://speech/m.{kind}", objects):
        assert isinstance(one, Utterance | Rejected)
