"""Fakes that implement Hearloop's ports in memory, for tests of code that uses the ports.

They keep the promises of `hearloop.ports`; `tests/contract` holds them and the real adapters to
the same tests.

    >>> objects = InMemoryObjects()
    >>> objects.create("s3://bucket/key", b"first"), objects.create("s3://bucket/key", b"second")
    (True, False)
"""

import json
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hearloop.errors import NotFound
from hearloop.ports import Event
from hearloop.storage.objects import split_uri

__all__ = ["InMemoryEvents", "InMemoryObjects", "InMemoryReader"]

PARTITIONS = 3
"""Partitions of each topic of `InMemoryEvents`, as many as the embedded broker's."""


class InMemoryObjects:
    """An ObjectStore in a dictionary; every bucket exists."""

    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, uri: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Write `body`, replacing what was there."""
        split_uri(uri)
        with self._lock:
            self._bodies[uri] = bytes(body)

    def create(
        self, uri: str, body: bytes, *, content_type: str = "application/octet-stream"
    ) -> bool:
        """Write `body` unless the object exists. Returns whether this call wrote it."""
        split_uri(uri)
        with self._lock:
            if uri in self._bodies:
                return False
            self._bodies[uri] = bytes(body)
            return True

    def get(self, uri: str) -> bytes:
        """Read an object. Raises NotFound."""
        split_uri(uri)
        try:
            return self._bodies[uri]
        except KeyError:
            raise NotFound(f"Nothing is stored at {uri}.") from None

    def exists(self, uri: str) -> bool:
        """Whether an object is stored under `uri`."""
        split_uri(uri)
        return uri in self._bodies

    def list(self, prefix: str) -> Iterator[str]:
        """URIs of the objects whose URI begins with `prefix`, in key order."""
        split_uri(prefix)
        with self._lock:
            found = sorted(uri for uri in self._bodies if uri.startswith(prefix))
        yield from found

    def delete(self, uri: str) -> None:
        """Remove an object; removing what is not there is no error."""
        split_uri(uri)
        with self._lock:
            self._bodies.pop(uri, None)

    def erase(self, uri: str) -> None:
        """Remove an object; no older version of it is kept here."""
        self.delete(uri)


class InMemoryEvents:
    """An EventLog in memory; `reader` gives an EventReader of it.

    Values travel as JSON, so what a real log could not carry fails here too.
    """

    def __init__(self) -> None:
        self._logs: dict[tuple[str, int], list[tuple[str, str]]] = {}
        self._committed: dict[tuple[str, str, int], int] = {}
        self._arrived = threading.Condition()
        self.dropped = 0

    def publish(self, topic: str, key: str, value: Mapping[str, Any]) -> None:
        """Append one event to its topic."""
        text = json.dumps(value, allow_nan=False)
        partition = zlib.crc32(key.encode()) % PARTITIONS
        with self._arrived:
            self._logs.setdefault((topic, partition), []).append((key, text))
            self._arrived.notify_all()

    def flush(self, seconds: float) -> int:
        """Nothing is ever queued."""
        return 0

    def reader(self, group: str, topics: Sequence[str]) -> "InMemoryReader":
        """A reader that begins where the group has committed, or at the beginning.

        Readers of one group are not balanced: each sees every partition.
        """
        return InMemoryReader(self, group, tuple(topics))


class InMemoryReader:
    """An EventReader of InMemoryEvents."""

    def __init__(self, log: InMemoryEvents, group: str, topics: tuple[str, ...]) -> None:
        self._log = log
        self._group = group
        self._next = {
            (topic, partition): log._committed.get((group, topic, partition), 0)
            for topic in topics
            for partition in range(PARTITIONS)
        }

    def poll(self, seconds: float) -> Sequence[Event]:
        """Events that arrived within `seconds`; empty when none did."""
        with self._log._arrived:
            self._log._arrived.wait_for(self._waiting, timeout=seconds)
            events: list[Event] = []
            for (topic, partition), first in self._next.items():
                arrived = self._log._logs.get((topic, partition), [])
                events += [
                    Event(
                        topic=topic,
                        partition=partition,
                        offset=offset,
                        key=arrived[offset][0],
                        value=json.loads(arrived[offset][1]),
                    )
                    for offset in range(first, len(arrived))
                ]
                self._next[topic, partition] = len(arrived)
            return events

    def _waiting(self) -> bool:
        return any(len(self._log._logs.get(place, [])) > at for place, at in self._next.items())

    def commit(self) -> None:
        """Remember that everything returned by `poll` so far has been dealt with."""
        with self._log._arrived:
            for (topic, partition), offset in self._next.items():
                self._log._committed[self._group, topic, partition] = offset

    def close(self) -> None:
        """Leave the consumer group; what was not committed will be read again."""
