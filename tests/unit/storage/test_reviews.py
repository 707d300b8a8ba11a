"""The store of what waits for review, over SQLite."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hearloop.config import Settings
from hearloop.corrections import correct
from hearloop.errors import Conflict, NotFound
from hearloop.events import Transcription
from hearloop.storage import reviews
from hearloop.storage.corrections import SqlCorrectionStore
from hearloop.storage.reviews import SqlReviewStore
from hearloop.storage.tables import engine

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def heard(number: int, confidence: float = 0.5) -> Transcription:
    return Transcription(
        event_id=f"e{number}",
        request_id=f"r{number}",
        call=f"call-{number}",
        speaker=None,
        model_version="1",
        audio_uri=f"s3://bucket/audio/{number}.flac",
        audio_seconds=2.0,
        text="pay the bill",
        confidence=confidence,
        words=3,
        received_at="2025-01-01T00:00:00+00:00",
    )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[tuple[SqlReviewStore, SqlCorrectionStore]]:
    database = engine(Settings(database_url=f"sqlite:///{tmp_path}/hearloop.db"))
    yield SqlReviewStore(database), SqlCorrectionStore(database)
    database.dispose()


Desk = tuple[SqlReviewStore, SqlCorrectionStore]


def waiting(store: SqlReviewStore, who: str, now: datetime = NOW, limit: int = 10) -> list[str]:
    found = store.waiting(who, now, audited_calls=0.0, limit=limit)
    assert store.count(who, now) >= len(found)
    return [one.request_id for one in found]


def say(store: SqlCorrectionStore, number: int, who: str, text: str) -> None:
    store.add(
        correct(heard(number), text=text, contributor=who, received_at="2025-01-01T00:00:00+00:00")
    )


def test_enrolled_once_least_confident_first(desk: Desk) -> None:
    store, _ = desk
    assert store.enrol([heard(1, 0.9), heard(2, 0.1), heard(2, 0.1)]) == 2
    assert store.enrol([heard(1, 0.9), heard(3, 0.5)]) == 1
    assert waiting(store, "ada") == ["r2", "r3", "r1"]
    assert waiting(store, "ada", limit=1) == ["r2"]


def test_a_claim_keeps_others_away_until_it_ends(desk: Desk) -> None:
    store, _ = desk
    store.enrol([heard(1)])
    until = NOW + timedelta(minutes=10)
    store.claim("r1", "ada", now=NOW, until=until)
    store.claim("r1", "ada", now=NOW, until=until)
    assert (waiting(store, "ada"), waiting(store, "bob")) == (["r1"], [])
    assert store.get("r1")["claimed_until"] == until
    with pytest.raises(Conflict, match="next one"):
        store.claim("r1", "bob", now=NOW, until=until)
    store.claim("r1", "bob", now=until, until=until + timedelta(minutes=10))
    assert waiting(store, "ada", until) == []
    with pytest.raises(NotFound, match="'r9'"):
        store.claim("r9", "ada", now=NOW, until=until)


def test_a_skip_is_for_one_person_until_three_have_skipped(desk: Desk) -> None:
    store, _ = desk
    store.enrol([heard(1)])
    store.claim("r1", "ada", now=NOW, until=NOW + timedelta(minutes=10))
    for _ in range(2):
        store.skip("r1", "ada")
    assert (waiting(store, "ada"), waiting(store, "bob")) == ([], ["r1"])
    store.skip("r1", "bob")
    assert waiting(store, "cid") == ["r1"]
    store.skip("r1", "cid")
    assert waiting(store, "dan") == []
    with pytest.raises(NotFound):
        store.skip("r9", "ada")


def test_a_correction_settles_and_a_tie_asks_a_third_person(desk: Desk) -> None:
    store, corrections = desk
    store.enrol([heard(1)])
    say(corrections, 1, "ada", "pay the gas bill")
    assert waiting(store, "bob") == []
    say(corrections, 1, "bob", "play the gas bill")
    assert (waiting(store, "ada"), waiting(store, "bob")) == ([], [])
    (contested,) = store.waiting("cid", NOW, audited_calls=0.0, limit=10)
    assert sorted(contested.opinions) == ["pay the gas bill", "play the gas bill"]
    say(corrections, 1, "cid", "pay the gas bill")
    assert waiting(store, "dan") == []


def test_a_second_thought_is_no_disagreement(desk: Desk) -> None:
    store, corrections = desk
    store.enrol([heard(1)])
    say(corrections, 1, "ada", "pay the grass bill")
    say(corrections, 1, "ada", "pay the gas bill")
    assert waiting(store, "bob") == []


def test_the_least_confident_is_asked_about_once(desk: Desk) -> None:
    store, _ = desk
    store.enrol([heard(1, 0.9), heard(2, 0.1)])
    first = store.unweighed()
    assert first
    assert first["request_id"] == "r2"
    store.set_plausibility("r2", -2.0)
    store.set_plausibility("r1", 0.0)
    assert store.unweighed() is None
    found = {one.request_id: one.plausibility for one in store.waiting(
        "ada", NOW, audited_calls=0.0, limit=10)}  # fmt: skip
    assert found == {"r2": -2.0, "r1": 0.0}


def test_the_oldest_are_forgotten(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviews, "MOST_ENROLLED", 2)
    store, _ = desk
    for number in range(4):
        store.enrol([heard(number)])
    assert sorted(waiting(store, "ada")) == ["r2", "r3"]
