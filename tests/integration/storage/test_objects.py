"""S3Objects against SeaweedFS."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from pydantic import SecretStr

from hearloop.errors import ConfigurationError, NotFound, ServiceUnavailable
from hearloop.stack import Stack
from hearloop.storage.objects import S3Objects

pytestmark = pytest.mark.stack


@pytest.fixture
def place(embedded: Stack) -> str:
    return f"s3://{embedded.settings.buckets.artifacts}/{uuid4().hex}"


def with_s3(stack: Stack, **changes: object) -> S3Objects:
    s3 = stack.settings.s3.model_copy(update=changes)
    return S3Objects(stack.settings.model_copy(update={"s3": s3}))


def test_one_of_16_racing_creators_wins(object_store: S3Objects, place: str) -> None:
    def create(number: int) -> bool:
        return object_store.create(f"{place}/claim", b"%d" % number)

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(create, range(16)))

    assert sum(won) == 1
    assert object_store.get(f"{place}/claim") == b"%d" % won.index(True)


def test_a_bucket_that_is_missing_is_named(object_store: S3Objects) -> None:
    with pytest.raises(NotFound, match="s3://no-such-bucket/key"):
        object_store.put("s3://no-such-bucket/key", b"")


def test_erasing_leaves_no_older_version(object_store: S3Objects) -> None:
    bucket = f"versioned-{uuid4().hex[:8]}"
    object_store.create_bucket(bucket)
    client = object_store._client
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"first", b"second"):
        object_store.put(f"s3://{bucket}/a", body)
        object_store.put(f"s3://{bucket}/ab", body)
    object_store.delete(f"s3://{bucket}/a")
    object_store.erase(f"s3://{bucket}/a")
    left = client.list_object_versions(Bucket=bucket)
    assert [one["Key"] for one in left["Versions"]] == ["ab", "ab"]
    assert left.get("DeleteMarkers", []) == []


def test_making_a_bucket_twice_is_no_error(object_store: S3Objects, embedded: Stack) -> None:
    object_store.create_bucket(embedded.settings.buckets.audio)


@pytest.mark.parametrize(
    "wrong", [{"secret_access_key": SecretStr("guess")}, {"access_key_id": "stranger"}]
)
def test_wrong_credentials_are_refused(
    object_store: S3Objects, embedded: Stack, place: str, wrong: dict[str, object]
) -> None:
    stranger = with_s3(embedded, **wrong)
    for request in (stranger.get, stranger.exists, stranger.delete):
        with pytest.raises(ConfigurationError, match="HEARLOOP_S3__SECRET_ACCESS_KEY"):
            request(f"{place}/anything")
    with pytest.raises(ConfigurationError, match="refused the access key"):
        stranger.create(f"{place}/anything", b"")
    assert not object_store.exists(f"{place}/anything")


def test_storage_that_is_away_is_named(embedded: Stack, place: str) -> None:
    nobody = with_s3(embedded, endpoint_url="http://127.0.0.1:9")
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9"):
        nobody.get(f"{place}/anything")
