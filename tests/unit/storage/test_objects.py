import pytest
from botocore.stub import Stubber

from hearloop.config import Settings
from hearloop.errors import ServiceUnavailable
from hearloop.storage import objects
from hearloop.storage.objects import S3Objects

URI = "s3://bucket/key"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> S3Objects:
    monkeypatch.setattr(objects, "CONFLICT_SECONDS", 0.0)
    return S3Objects(Settings())


def conflict(aws: Stubber) -> None:
    aws.add_client_error("put_object", "ConditionalRequestConflict", http_status_code=409)


def test_a_write_that_meets_another_is_tried_again(store: S3Objects) -> None:
    with Stubber(store._client) as aws:
        conflict(aws)
        aws.add_response("put_object", {})
        assert store.create(URI, b"body")


def test_the_other_write_may_win(store: S3Objects) -> None:
    with Stubber(store._client) as aws:
        conflict(aws)
        aws.add_client_error("put_object", "PreconditionFailed", http_status_code=412)
        aws.add_response("head_object", {"Metadata": {"hearloop-writer": "another"}})
        assert not store.create(URI, b"body")


def test_a_conflict_that_stays_is_said(store: S3Objects) -> None:
    with Stubber(store._client) as aws:
        for _ in range(objects.ATTEMPTS):
            conflict(aws)
        with pytest.raises(ServiceUnavailable, match="ConditionalRequestConflict"):
            store.create(URI, b"body")
