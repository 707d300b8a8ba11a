"""Deletes recordings whose time is over, beside the server's work."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from hearloop.errors import HearloopError
from hearloop.ports import ObjectStore
from hearloop.retention import expire

__all__ = ["expiring"]

EVERY_SECONDS: Final = 3600.0
"""Recordings are kept for days: an hour more or less is none of them."""

log = logging.getLogger(__name__)


@contextmanager
def expiring(objects: ObjectStore, bucket: str, every_s: float = EVERY_SECONDS) -> Iterator[None]:
    """Look every hour meanwhile, in a thread. Several servers may: deleting twice is no harm."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(every_s):
            try:
                expire(objects, bucket, datetime.now(UTC).date())
            except HearloopError as error:
                log.warning("Recordings whose time is over wait to be deleted: %s", error)

    threading.Thread(target=look, name="expiry", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
