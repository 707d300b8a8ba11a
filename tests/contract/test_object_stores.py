"""What every ObjectStore promises, held by the fake and by S3 alike."""

from uuid import uuid4

import pytest

from hearloop.errors import ConfigurationError, NotFound
from hearloop.ports import ObjectStore
from hearloop.testing import InMemoryObjects


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.stack)])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param == "memory":
        return InMemoryObjects()
    return request.getfixturevalue("object_store")


@pytest.fixture
def place() -> str:
    return f"s3://hearloop-artifacts/{uuid4().hex}"


def test_what_is_put_is_read_and_replaced(store: ObjectStore, place: str) -> None:
    store.put(f"{place}/a", b"one")
    store.put(f"{place}/a", b"two")
    assert store.get(f"{place}/a") == b"two"


@pytest.mark.parametrize("body", [b"", bytes(range(256)) * 4096 * 6])
def test_bodies_come_back_as_they_went(store: ObjectStore, place: str, body: bytes) -> None:
    store.put(f"{place}/a", body)
    assert store.get(f"{place}/a") == body


def test_only_the_first_creator_writes(store: ObjectStore, place: str) -> None:
    body = b"same"
    assert store.create(f"{place}/a", body)
    assert not store.create(f"{place}/a", body)
    assert not store.create(f"{place}/a", b"other")
    assert store.get(f"{place}/a") == b"same"


def test_a_deleted_name_can_be_created_again(store: ObjectStore, place: str) -> None:
    store.create(f"{place}/a", b"first")
    store.delete(f"{place}/a")
    store.delete(f"{place}/a")
    assert not store.exists(f"{place}/a")
    assert store.create(f"{place}/a", b"second")


def test_an_erased_name_is_gone_and_its_neighbours_stay(store: ObjectStore, place: str) -> None:
    store.put(f"{place}/a", b"first")
    store.put(f"{place}/a", b"second")
    store.put(f"{place}/ab", b"another")
    store.erase(f"{place}/a")
    store.erase(f"{place}/a")
    assert list(store.list(f"{place}/")) == [f"{place}/ab"]


def test_what_is_missing_is_named(store: ObjectStore, place: str) -> None:
    assert not store.exists(f"{place}/a")
    with pytest.raises(NotFound, match=f"{place}/a"):
        store.get(f"{place}/a")


def test_lists_are_in_key_order_and_hold_only_the_prefix(store: ObjectStore, place: str) -> None:
    for name in ("b", "a/2", "a/10", "a", "ab", "é ü"):
        store.put(f"{place}/{name}", b"")
    assert list(store.list(f"{place}/")) == [
        f"{place}/{name}" for name in ("a", "a/10", "a/2", "ab", "b", "é ü")
    ]
    assert list(store.list(f"{place}/a/")) == [f"{place}/a/10", f"{place}/a/2"]
    assert list(store.list(f"{place}/nothing")) == []


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "s3:/bucket/key", "s3:///key", "bucket/key"])
def test_only_s3_uris_are_taken(store: ObjectStore, uri: str) -> None:
    with pytest.raises(ConfigurationError, match="s3://bucket/key"):
        store.get(uri)
    with pytest.raises(ConfigurationError, match="s3://bucket/key"):
        store.put(uri, b"")
