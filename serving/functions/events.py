"""What an event says has landed: S3's own notifications, EventBridge's, or either inside SQS.

| comes as | and is tried again by |
|---|---|
| S3 notification, straight to the function | Lambda, as a whole |
| EventBridge, `aws.s3` `Object Created` | Lambda, as a whole |
| SQS messages that hold one of these | SQS, message by message |

Formats: AWS, "Event message structure" and "EventBridge event message structure" of the Amazon S3
user guide. Only S3's own notification writes the key as in a URL.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from hearloop.errors import InvalidInput

__all__ = ["Landed", "Message", "landed", "messages"]


@dataclass(frozen=True, kw_only=True)
class Landed:
    """An object that was created. `size` in bytes, as the event has it."""

    bucket: str
    key: str
    size: int

    @property
    def uri(self) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, kw_only=True)
class Message:
    """A part of an event that succeeds or fails by itself. `id` is None where Lambda has none."""

    id: str | None
    body: str | Mapping[str, Any]
    """An SQS body (JSON), or the event itself."""


def messages(event: Mapping[str, Any]) -> Sequence[Message]:
    """The messages of one invocation. Raises InvalidInput for what is no event at all."""
    if not isinstance(event, Mapping):
        raise _foreign(event)
    records = event.get("Records")
    if not isinstance(records, list) or not _from_sqs(records):
        return [Message(id=None, body=event)]
    return [Message(id=record["messageId"], body=record["body"]) for record in records]


def landed(message: Message) -> Sequence[Landed]:
    """The objects that a message says were created, in its order; none in S3's test message.

    Raises InvalidInput where it is in none of the formats.
    """
    body = message.body
    try:
        event = json.loads(body) if isinstance(body, str) else body
        return list(_created(event))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _foreign(body) from error


def _from_sqs(records: Sequence[Any]) -> bool:
    return any(isinstance(one, Mapping) and one.get("eventSource") == "aws:sqs" for one in records)


def _created(event: Mapping[str, Any]) -> Iterator[Landed]:
    if event.get("Event") == "s3:TestEvent":
        return
    if event.get("source") == "aws.s3":
        if event["detail-type"] == "Object Created":
            found = event["detail"]
            yield _object(found["bucket"]["name"], found["object"]["key"], found["object"])
        return
    for record in event["Records"]:
        if record["eventName"].removeprefix("s3:").startswith("ObjectCreated:"):
            found = record["s3"]
            key = unquote_plus(found["object"]["key"], errors="strict")
            yield _object(found["bucket"]["name"], key, found["object"])


def _object(bucket: str, key: str, rest: Mapping[str, Any]) -> Landed:
    if not (isinstance(bucket, str) and isinstance(key, str) and bucket and key):
        raise ValueError("an object has a bucket and a key")
    return Landed(bucket=bucket, key=key, size=int(rest.get("size", 0)))


def _foreign(event: object) -> InvalidInput:
    return InvalidInput(
        f"The event {str(event)[:120]!r} is neither a notification of S3 nor EventBridge's "
        "Object Created; connect the function to one of these, directly or through SQS."
    )
