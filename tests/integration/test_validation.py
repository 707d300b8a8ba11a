"""Great Expectations for real: a file context in a temporary folder."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hearloop.datasets import CutRow
from hearloop.errors import ValidationFailed
from hearloop.quality import Quality
from hearloop.recipe import (
    CorrectionsCorpus,
    FolderCorpus,
    PerSplit,
    PromptsCorpus,
    SyntheticCorpus,
)
from hearloop.validation import DATA_DOCS, Declared, Finding, declared_by, refuse_critical, validate

QUALITY = Quality(
    duration_s=2.0, snr_db=25.0, bandwidth_hz=7000.0, loudness_dbfs=-26.0, clipping=0.0, silence=0.2
)
SYNTHETIC = SyntheticCorpus(
    seed=1,
    speakers=PerSplit(train=1, dev=1, test=1),
    utterances_per_speaker=PerSplit(train=1, dev=1, test=1),
)
DECLARED = declared_by([SYNTHETIC])


def row(number: int, split: Any = "train", **changed: Any) -> CutRow:
    """A sound row; each number has its own speaker, text and audio."""
    return replace(
        CutRow(
            id=f"cut-{number}",
            split=split,
            text="call " + "abcdefghij"[number % 10] * (number // 10 + 1),
            speaker=f"speaker-{number}",
            call=f"call-{number}",
            accent="en-gb",
            language="en",
            source="synthetic",
            contributor=None,
            correction=None,
            recorded_at=datetime(2026, 3, 1, tzinfo=UTC),
            seconds=2.0,
            sample_rate=16000,
            audio_digest=f"{number:064x}",
            audio_uri=f"s3://snapshots/audio/{number:064x}.flac",
            quality=QUALITY,
        ),
        **changed,
    )


SOUND = [row(0), row(1), row(2, "dev"), row(3, "test"), row(4, "test")]


@pytest.fixture(scope="module", autouse=True)
def _library(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Load Great Expectations once, with the warnings that it sets off in what it loads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        validate(SOUND, declared=DECLARED, folder=tmp_path_factory.mktemp("library"))


def broken(
    rows: Sequence[CutRow], folder: Path, declared: Declared = DECLARED
) -> dict[tuple[str, str], set[str]]:
    """Rows by (severity, expectation) that they break."""
    findings = validate(rows, declared=declared, folder=folder)
    return {(one.severity, one.expectation): set(one.rows) for one in findings if not one.met}


def test_sound_rows_break_nothing_and_leave_data_docs(tmp_path: Path) -> None:
    findings = validate(SOUND, declared=DECLARED, folder=tmp_path)

    assert all(one.met for one in findings)
    assert {one.severity for one in findings} == {"critical", "warning"}
    refuse_critical("digest", findings)
    pages = list((tmp_path / DATA_DOCS).rglob("*.html"))
    assert tmp_path / DATA_DOCS / "index.html" in pages
    assert any("the sample rate is 16000 Hz" in page.read_text() for page in pages)


def test_each_broken_row_is_named_by_what_it_breaks(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"seconds": 0.2},
        {"seconds": 30.5},
        {"sample_rate": 8000},
        {"text": "Call 7"},
        {"text": ""},
        {"split": "validation"},
        {"speaker": None},
        {"id": "cut-0"},
        {"audio_digest": SOUND[0].audio_digest},
        {"quality": replace(QUALITY, silence=0.95)},
        {"quality": replace(QUALITY, clipping=0.02)},
    ]

    assert broken([*SOUND, *(row(5 + at, **one) for at, one in enumerate(wrong))], tmp_path) == {
        ("critical", "a cut lasts 0.3 to 30 s"): {"cut-5", "cut-6"},
        ("critical", "the sample rate is 16000 Hz"): {"cut-7"},
        ("critical", "a transcript holds only characters of the alphabet"): {"cut-8", "cut-9"},
        ("critical", "split is train, dev or test"): {"cut-10"},
        ("critical", "speaker is given"): {"cut-11"},
        ("critical", "an id names one cut"): {"cut-0"},
        ("warning", "no audio occurs twice"): {"cut-0", "cut-13"},
        ("warning", "at most 90% of a cut is silent"): {"cut-14"},
        ("warning", "at most 1% of a cut is clipped"): {"cut-15"},
    }


def test_audio_that_leaks_into_a_test_is_critical(tmp_path: Path) -> None:
    found = broken([*SOUND, row(5, "test", audio_digest=SOUND[0].audio_digest)], tmp_path)

    assert found["critical", "no audio is in two splits"] == {"cut-0", "cut-5"}


def test_speakers_and_texts_in_two_splits_are_as_bad_as_their_corpus_declares(
    tmp_path: Path,
) -> None:
    mixture = [
        *SOUND,
        row(5, "test", speaker=SOUND[0].speaker),
        row(6, "test", text=SOUND[1].text),
        row(7, source="prompts", speaker="allison"),
        row(8, "test", source="prompts", speaker="allison"),
        row(9, "test", source="prompts", speaker="allison", text=SOUND[0].text),
    ]

    assert broken(mixture, tmp_path, declared_by([SYNTHETIC, PromptsCorpus()])) == {
        ("critical", "no speaker of a corpus with disjoint speakers is in two splits"): {
            "cut-0",
            "cut-5",
        },
        ("warning", "no speaker is in two splits"): {"cut-7", "cut-8", "cut-9"},
        ("critical", "no text of a corpus split by text is tested and trained on"): {"cut-9"},
        ("warning", "no text is tested and trained on"): {"cut-6"},
    }


@pytest.mark.parametrize(
    ("corpus", "promised"),
    [
        (SYNTHETIC, True),
        (CorrectionsCorpus(up_to=9), True),
        (FolderCorpus(location="x", disjoint_speakers=True), True),
        (FolderCorpus(location="x"), False),
        (PromptsCorpus(), False),
    ],
)
def test_disjoint_speakers_are_a_property_of_the_corpus(corpus: Any, promised: bool) -> None:
    assert declared_by([corpus]).disjoint_speakers == ({corpus.kind} if promised else set())


def test_nothing_to_test_on_is_refused(tmp_path: Path) -> None:
    findings = validate(SOUND[:3], declared=DECLARED, folder=tmp_path)

    with pytest.raises(ValidationFailed, match="something to train on and something to test on"):
        refuse_critical("digest", findings)


def test_warnings_alone_refuse_nothing() -> None:
    refuse_critical(
        "digest", [Finding(expectation="quiet", severity="warning", met=False, rows=("cut-1",))]
    )


def test_the_error_names_ten_rows_and_counts_the_rest(tmp_path: Path) -> None:
    rows = [*SOUND, *(row(number, seconds=31.0) for number in range(5, 18))]

    with pytest.raises(ValidationFailed) as raised:
        refuse_critical("0123456789abcdef", validate(rows, declared=DECLARED, folder=tmp_path))

    message = str(raised.value)
    assert message.startswith('Snapshot 0123456789ab breaks "a cut lasts 0.3 to 30 s" in cut-5,')
    assert "cut-14 and 3 more" in message
    assert "cut-15" not in message
    assert "\n" not in message


def test_a_snapshot_of_the_base_recipe_takes_seconds(tmp_path: Path) -> None:
    rows = [row(number, ("train", "dev", "test")[number % 3]) for number in range(1500)]

    began = time.process_time()
    assert all(one.met for one in validate(rows, declared=DECLARED, folder=tmp_path))
    assert time.process_time() - began < 10
