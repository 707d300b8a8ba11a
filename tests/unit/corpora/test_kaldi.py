from pathlib import Path

import numpy as np
import pytest

from hearloop.audio import SAMPLE_RATE, decode, encode_flac
from hearloop.corpora import Rejected, Utterance
from hearloop.corpora.folder import utterances
from hearloop.recipe import FolderCorpus
from hearloop.testing import InMemoryObjects


def _flac(seconds: float) -> bytes:
    rng = np.random.default_rng(0)
    return encode_flac(rng.normal(0, 0.1, int(seconds * SAMPLE_RATE)).astype(np.float32))


def _folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "r1.flac").write_bytes(_flac(2.0))
    for name, text in files.items():
        (path / name.replace("_", ".")).write_text(text)
    return path


def _read(location: Path | str) -> list[Utterance | Rejected]:
    return list(utterances(FolderCorpus(location=str(location)), objects=InMemoryObjects()))


def _reasons(found: list[Utterance | Rejected]) -> dict[str, str]:
    return {one.id: one.reason for one in found if isinstance(one, Rejected)}


def test_without_segments_a_recording_is_an_utterance(tmp_path: Path) -> None:
    folder = _folder(
        tmp_path, wav_scp=f"u1 {tmp_path}/r1.flac\n", text="u1 Hello there\n", utt2spk="u1\tann\n"
    )
    (one,) = _read(folder)
    assert isinstance(one, Utterance)
    assert (one.id, one.text, one.speaker, one.call) == ("u1", "Hello there", "ann", None)
    assert one.audio == _flac(2.0)


def test_segments_are_cut_out_of_their_recording(tmp_path: Path) -> None:
    folder = _folder(
        tmp_path,
        wav_scp="r1 r1.flac\n",
        text="u1 one\nu2 two\n",
        segments="u2 r1 1.5 2.0\nu1 r1 0.25 1.0\n",
    )
    first, second = _read(folder)
    assert isinstance(first, Utterance)
    assert isinstance(second, Utterance)
    assert (first.id, first.speaker, first.call) == ("u1", "u1", "r1")
    whole = decode(_flac(2.0)).samples
    np.testing.assert_array_equal(decode(first.audio).samples, whole[4_000:16_000])
    np.testing.assert_array_equal(decode(second.audio).samples, whole[24_000:])


@pytest.mark.parametrize(
    ("segment", "reason"),
    [
        ("u1 r1 0", "write recording, start and end"),
        ("u1 r1 zero one", "write recording, start and end"),
        ("u1 r1 1 0.5", "start before the end"),
        ("u1 r1 nan 1", "start before the end"),
        ("u1 r1 0 9", "lasts 2.00 s"),
        ("u1 r1 0 inf", "lasts 2.00 s"),
        ("u1 r9 0 1", "no line in wav.scp"),
    ],
)
def test_a_segment_that_cannot_be_cut_is_rejected(
    tmp_path: Path, segment: str, reason: str
) -> None:
    folder = _folder(
        tmp_path,
        wav_scp="r1 r1.flac\n",
        text="u1 one\nu2 two\n",
        segments=f"{segment}\nu2 r1 0 1\n",
    )
    found = _read(folder)
    assert reason in _reasons(found)["u1"]
    assert [one.id for one in found if isinstance(one, Utterance)] == ["u2"]


def test_nothing_that_any_file_names_is_lost(tmp_path: Path) -> None:
    folder = _folder(
        tmp_path,
        wav_scp="u1 r1.flac\nu1 r1.flac\nu2 r1.flac\nu3 sph2pipe x.sph |\nu4 gone.wav\n",
        text="u1 one\nu3 three\nu4 four\nu5 five\n",
    )
    found = _read(folder)
    assert [one.id for one in found if isinstance(one, Utterance)] == ["u1", "u1"]
    reasons = _reasons(found)
    assert "no line in `text`" in reasons["u2"]
    assert "commands are not run" in reasons["u3"]
    assert "cannot be read" in reasons["u4"]
    assert "no recording" in reasons["u5"]


def test_folders_named_after_splits_are_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        _folder(tmp_path / split, wav_scp=f"{split}-1 r1.flac\n", text=f"{split}-1 hello\n")
    found = _read(tmp_path)
    assert [(one.id, one.split) for one in found if isinstance(one, Utterance)] == [
        ("train-1", "train"),
        ("test-1", "test"),
    ]
