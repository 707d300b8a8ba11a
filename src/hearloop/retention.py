"""How long recordings are kept, and that they go when their time is over.

    s3://<bucket>/expiry/days/2026-03-01/<request id>.json   what to delete after that day
                  expiry/shared/<audio digest>/2026-05-01    a recording that came again

The day is written down before the recording is, so nothing is kept without one. Deleting may stop
anywhere and be done again.
"""

import json
import logging
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from hearloop.errors import NotFound
from hearloop.ports import ObjectStore

__all__ = ["KEPT_DAYS", "expire", "last_day", "note_expiry", "note_sharing"]

KEPT_DAYS: Final = 730
"""Where nobody says anything else: as the lifecycle of the bucket has it."""

log = logging.getLogger(__name__)


def note_expiry(
    objects: ObjectStore,
    bucket: str,
    request_id: str,
    *,
    audio_uri: str,
    record_uri: str,
    last_day: date,
) -> None:
    """Write down that the recording and the record of a request go after `last_day` (UTC)."""
    body = json.dumps({"audio_uri": audio_uri, "record_uri": record_uri}).encode()
    place = f"{_days(bucket)}{last_day.isoformat()}/{request_id}.json"
    objects.put(place, body, content_type="application/json")


def note_sharing(objects: ObjectStore, bucket: str, audio_uri: str, last_day: date) -> None:
    """Write down that the same recording belongs to another request too, until `last_day`."""
    objects.put(f"{_shared(bucket, audio_uri)}{last_day.isoformat()}", b"")


def expire(objects: ObjectStore, bucket: str, today: date) -> int:
    """Delete what was to be kept until yesterday at most; returns how many recordings went."""
    deleted = 0
    for marker in list(_due(objects, bucket, today)):
        try:
            found = json.loads(objects.get(marker))
        except NotFound:  # somebody else was faster
            continue
        if _last_day_shared(objects, bucket, found["audio_uri"]) < today.isoformat():
            objects.delete(found["audio_uri"])
            for shared in list(objects.list(_shared(bucket, found["audio_uri"]))):
                objects.delete(shared)
            deleted += 1
        objects.delete(found["record_uri"])
        objects.delete(marker)  # last: what stops before is done again
    if deleted:
        log.info("%d recordings were deleted, their time being over", deleted)
    return deleted


def last_day(today: date, kept_days: int) -> date:
    """The last day of what came in today."""
    return today + timedelta(days=kept_days)


def _due(objects: ObjectStore, bucket: str, today: date) -> Iterator[str]:
    for uri in objects.list(_days(bucket)):  # in order of the days
        if uri.removeprefix(_days(bucket))[:10] >= today.isoformat():
            return
        yield uri


def _last_day_shared(objects: ObjectStore, bucket: str, audio_uri: str) -> str:
    days = [uri.rsplit("/", 1)[1] for uri in objects.list(_shared(bucket, audio_uri))]
    return max(days, default="")


def _days(bucket: str) -> str:
    return f"s3://{bucket}/expiry/days/"


def _shared(bucket: str, audio_uri: str) -> str:
    return f"s3://{bucket}/expiry/shared/{audio_uri.rsplit('/', 1)[1]}/"
