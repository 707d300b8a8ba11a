"""Feast for real: its local provider over a temporary folder."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hearloop.errors import NotFound
from hearloop.feature_store import FeatureStore, UtteranceQuality
from hearloop.quality import SIGNALS
from hearloop.testing import InMemoryObjects

# Feast 0.67 drops duplicates through dask, which pandas 2.3 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:Downcasting object dtype arrays:FutureWarning")

MORNING = datetime(2026, 3, 1, 8, tzinfo=UTC)


def row(utterance: str, value: float, *, at: datetime = MORNING) -> UtteranceQuality:
    signals = {signal.name: value + place for place, signal in enumerate(SIGNALS)}
    return UtteranceQuality(utterance=utterance, recorded_at=at, signals=signals)


@pytest.fixture
def objects() -> InMemoryObjects:
    return InMemoryObjects()


@pytest.fixture
def store(tmp_path: Path, objects: InMemoryObjects) -> FeatureStore:
    return FeatureStore(tmp_path / "feast", objects, "artifacts")


def test_joined_rows_keep_the_order_and_the_values_asked_for(store: FeatureStore) -> None:
    store.write("base", [row("one", 1.0), row("two", 2.0)])
    store.write("more", [row("three", 3.0)])

    table = store.joined(
        [("three", MORNING), ("one", MORNING), ("three", MORNING)], snapshots=["base", "more"]
    )

    assert list(table["utterance"]) == ["three", "one", "three"]
    first = SIGNALS[0].name
    assert list(table[first]) == [3.0, 1.0, 3.0]
    assert list(table.columns) == ["utterance", *(signal.name for signal in SIGNALS)]


def test_writing_a_snapshot_again_changes_nothing(store: FeatureStore, tmp_path: Path) -> None:
    asked = [("one", MORNING), ("two", MORNING)]
    store.write("base", [row("one", 1.0), row("two", 2.0)])
    before = store.joined(asked, snapshots=["base"])
    store.write("base", [row("one", 1.0), row("two", 2.0)])

    assert store.joined(asked, snapshots=["base"]).equals(before)
    assert len(list((tmp_path / "feast" / "rows").iterdir())) == 1


def test_a_forgotten_utterance_is_known_of_neither_name(store: FeatureStore) -> None:
    store.write("base", [row("one", 1.0), row("two", 2.0)])
    store.forget("base", ["one"], successor="rest")
    store.forget("base", ["one"], successor="rest")
    for snapshot in ("base", "rest"):
        assert len(store.joined([("two", MORNING)], snapshots=[snapshot])) == 1
        with pytest.raises(NotFound, match="'one'"):
            store.joined([("two", MORNING), ("one", MORNING)], snapshots=[snapshot])
    store.forget("never analysed", ["one"], successor="nothing")


def test_the_same_utterance_in_two_snapshots_is_joined_once(store: FeatureStore) -> None:
    store.write("base", [row("one", 1.0)])
    store.write("superset", [row("one", 1.0), row("two", 2.0)])

    asked = [("one", MORNING), ("two", MORNING)]
    assert len(store.joined(asked, snapshots=["base", "superset"])) == 2


def test_what_was_measured_later_is_not_known_earlier(store: FeatureStore) -> None:
    later = MORNING + timedelta(days=1)
    store.write("base", [row("one", 1.0), row("one", 5.0, at=later), row("two", 2.0, at=later)])

    first, tomorrow = SIGNALS[0].name, later + timedelta(hours=1)
    assert store.joined([("one", MORNING)], snapshots=["base"])[first].item() == 1.0
    assert store.joined([("one", tomorrow)], snapshots=["base"])[first].item() == 5.0
    with pytest.raises(NotFound, match=r"does not know 1 of 2 utterances.*'two'"):
        store.joined([("one", MORNING), ("two", MORNING)], snapshots=["base"])


def test_rows_that_another_process_is_still_writing_are_not_read(
    store: FeatureStore, tmp_path: Path
) -> None:
    store.write("base", [row("one", 1.0)])
    (tmp_path / "feast" / "rows" / ".more.parquet.unfinished").write_bytes(b"PAR1")

    assert len(store.joined([("one", MORNING)], snapshots=["base"])) == 1


def test_an_unknown_utterance_is_named(store: FeatureStore) -> None:
    store.write("base", [row("one", 1.0)])

    with pytest.raises(NotFound, match="'nobody'"):
        store.joined([("nobody", MORNING)], snapshots=["base"])


def test_another_machine_fetches_the_rows_that_it_lacks(
    store: FeatureStore, objects: InMemoryObjects, tmp_path: Path
) -> None:
    asked = [("one", MORNING), ("two", MORNING)]
    store.write("base", [row("one", 1.0)])
    store.write("more", [row("two", 2.0)])
    pod = FeatureStore(tmp_path / "pod", objects, "artifacts")

    table = pod.joined(asked, snapshots=["base", "more"])

    assert table.equals(store.joined(asked, snapshots=["base", "more"]))
    for uri in list(objects.list("s3://artifacts/")):
        objects.delete(uri)
    assert pod.joined(asked, snapshots=["base", "more"]).equals(table)


def test_a_snapshot_that_was_never_analysed_is_named(store: FeatureStore) -> None:
    with pytest.raises(NotFound, match="does not know the snapshot nowhere; run the extract"):
        store.joined([("one", MORNING)], snapshots=["nowhere"])


def test_feast_is_read_without_torch_which_stays_importable(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, hearloop.errors, hearloop.feature_store as f, datetime as d\n"
        "from hearloop.testing import InMemoryObjects\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "store = f.FeatureStore(folder, InMemoryObjects(), 'artifacts')\n"
        "signals = {signal.name: 1.0 for signal in f.SIGNALS}\n"
        "at = d.datetime.now(d.UTC)\n"
        "store.write('a', [f.UtteranceQuality(utterance='u', recorded_at=at, signals=signals)])\n"
        "assert len(store.joined([('u', at)], snapshots=['a'])) == 1\n"
        "assert 'feast' in sys.modules and 'torch' not in sys.modules\n"
        "import torch; torch.zeros(1)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
