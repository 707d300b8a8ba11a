import json
from contextlib import suppress
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.errors import InvalidInput
from serving.functions.events import Landed, Message, landed, messages

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


def notification(*keys: str, event: str = "ObjectCreated:Put") -> dict[str, Any]:
    return {
        "Records": [
            {
                "eventSource": "aws:s3",
                "eventName": event,
                "s3": {"bucket": {"name": "b"}, "object": {"key": quote_plus(key), "size": 7}},
            }
            for key in keys
        ]
    }


def bridged(key: str, kind: str = "Object Created") -> dict[str, Any]:
    return {
        "source": "aws.s3",
        "detail-type": kind,
        "detail": {"bucket": {"name": "b"}, "object": {"key": key, "size": 7}},
    }


def queued(*bodies: object) -> dict[str, Any]:
    records = [
        {"eventSource": "aws:sqs", "messageId": f"m{n}", "body": json.dumps(body)}
        for n, body in enumerate(bodies)
    ]
    return {"Records": records}


@settings(deadline=None, derandomize=True)
@given(st.lists(KEYS, min_size=1, max_size=3))
def test_the_same_objects_come_by_every_way(keys: list[str]) -> None:
    expected = [Landed(bucket="b", key=key, size=7) for key in keys]
    (straight,) = messages(notification(*keys))
    (wrapped,) = messages(queued(notification(*keys)))
    by_bridge = messages(queued(*(bridged(key) for key in keys)))

    assert landed(straight) == landed(wrapped) == expected
    assert [one for message in by_bridge for one in landed(message)] == expected
    assert [message.id for message in by_bridge] == [f"m{n}" for n in range(len(keys))]
    assert straight.id is None


def test_a_key_is_read_as_s3_writes_it() -> None:
    (message,) = messages(notification("incoming/a b+c/é.flac"))

    assert landed(message)[0].uri == "s3://b/incoming/a b+c/é.flac"


@pytest.mark.parametrize(
    "event",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"},
        notification("k", event="ObjectRemoved:Delete"),
        notification("k", event="s3:ObjectRemoved:Delete"),
        bridged("k", "Object Deleted"),
        {"Records": []},
    ],
)
def test_what_creates_no_object_has_none(event: dict[str, Any]) -> None:
    (message,) = messages(event)

    assert landed(message) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Records", "s3", "eventName", "detail", "source", "body", "key"]),
            inner,
            max_size=3,
        )
    ),
)


@settings(deadline=None, derandomize=True)
@given(JSON)
def test_anything_else_is_refused_or_has_none(body: Any) -> None:
    with suppress(InvalidInput):
        assert landed(Message(id="m", body=json.dumps(body))) == []


@pytest.mark.parametrize("event", ["text", None, [1], 3])
def test_an_event_that_is_no_object_is_refused(event: Any) -> None:
    with pytest.raises(InvalidInput, match="neither a notification of S3"):
        messages(event)
