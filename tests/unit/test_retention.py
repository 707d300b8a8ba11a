"""Recordings go when their time is over, and no day before."""

from datetime import date, timedelta

import pytest

from hearloop.retention import expire, last_day, note_expiry, note_sharing
from hearloop.testing import InMemoryObjects

BUCKET = "audio"
TODAY = date(2026, 3, 1)


@pytest.fixture
def objects() -> InMemoryObjects:
    return InMemoryObjects()


def keep(objects: InMemoryObjects, request: str, audio: str, kept_days: int) -> None:
    """As the server's log keeps an utterance that came in today."""
    audio_uri, record_uri = f"s3://{BUCKET}/audio/{audio}", f"s3://{BUCKET}/requests/{request}"
    ends = last_day(TODAY, kept_days)
    note_expiry(objects, BUCKET, request, audio_uri=audio_uri, record_uri=record_uri, last_day=ends)
    if not objects.create(audio_uri, b"sound"):
        note_sharing(objects, BUCKET, audio_uri, ends)
    objects.put(record_uri, b"{}")


def left(objects: InMemoryObjects) -> list[str]:
    return [uri.removeprefix(f"s3://{BUCKET}/") for uri in objects.list(f"s3://{BUCKET}/")]


def test_each_goes_after_its_own_days(objects: InMemoryObjects) -> None:
    keep(objects, "short", "a", 7)
    keep(objects, "long", "b", 30)
    assert expire(objects, BUCKET, TODAY + timedelta(days=7)) == 0
    assert expire(objects, BUCKET, TODAY + timedelta(days=8)) == 1
    assert [name for name in left(objects) if not name.startswith("expiry/")] == [
        "audio/b",
        "requests/long",
    ]
    assert expire(objects, BUCKET, TODAY + timedelta(days=31)) == 1
    assert left(objects) == []


def test_a_recording_that_came_again_stays_as_long_as_the_last_of_them(
    objects: InMemoryObjects,
) -> None:
    keep(objects, "first", "same", 7)
    keep(objects, "second", "same", 30)
    expire(objects, BUCKET, TODAY + timedelta(days=8))
    assert "audio/same" in left(objects)
    assert "requests/first" not in left(objects)
    assert "requests/second" in left(objects)
    expire(objects, BUCKET, TODAY + timedelta(days=31))
    assert left(objects) == []


def test_what_stopped_midway_is_done_again(
    objects: InMemoryObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(objects, "r", "a", 7)
    deletes = objects.delete

    def broken(uri: str) -> None:
        if "/requests/" in uri:
            raise ConnectionError
        deletes(uri)

    monkeypatch.setattr(objects, "delete", broken)
    with pytest.raises(ConnectionError):
        expire(objects, BUCKET, TODAY + timedelta(days=8))
    monkeypatch.undo()
    expire(objects, BUCKET, TODAY + timedelta(days=8))
    assert left(objects) == []
