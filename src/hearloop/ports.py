"""What the use cases need from the outside world.

Adapters in `hearloop.storage`, `hearloop.registry` and `hearloop.launchers` implement these
protocols; `hearloop.composition` picks them from the settings; fakes for tests are in
`hearloop.testing`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["DecisionLog", "Event", "EventLog", "EventReader", "ObjectStore", "PipelineLauncher"]


class ObjectStore(Protocol):
    """Objects under `s3://bucket/key` URIs. Every write is atomic: readers see all or nothing."""

    def put(self, uri: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Write `body`, replacing what was there."""

    def create(
        self, uri: str, body: bytes, *, content_type: str = "application/octet-stream"
    ) -> bool:
        """Write `body` unless the object exists. Returns whether this call wrote it."""

    def get(self, uri: str) -> bytes:
        """Read an object. Raises NotFound."""

    def exists(self, uri: str) -> bool:
        """Whether an object is stored under `uri`."""

    def list(self, prefix: str) -> Iterator[str]:
        """URIs of the objects whose URI begins with `prefix`, in key order."""

    def delete(self, uri: str) -> None:
        """Remove an object; removing what is not there is no error."""

    def erase(self, uri: str) -> None:
        """Remove an object for good, with every older version of it that the store kept."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event as read from a topic."""

    topic: str
    partition: int
    offset: int
    key: str
    value: Mapping[str, Any]


class EventLog(Protocol):
    """Producer side of the event log."""

    dropped: int
    """Events that were published and are lost: the queue was full, or the log refused them."""

    def publish(self, topic: str, key: str, value: Mapping[str, Any]) -> None:
        """Queue one event without blocking. A full queue drops and counts it, never waits."""

    def flush(self, seconds: float) -> int:
        """Wait for queued events to be acknowledged; returns how many are still queued."""


class EventReader(Protocol):
    """Consumer side of the event log: at least once, so readers de-duplicate by event id."""

    def poll(self, seconds: float) -> Sequence[Event]:
        """Events that arrived within `seconds`; empty when none did."""

    def commit(self) -> None:
        """Remember that everything returned by `poll` so far has been dealt with."""

    def close(self) -> None:
        """Leave the consumer group; again does nothing."""


class PipelineLauncher(Protocol):
    """Starts pipeline runs: a subprocess here, the KFP API in a cluster."""

    def launch(self, run_id: str, recipe: str) -> None:
        """Start a run of the recipe given as JSON. Launching the same `run_id` twice starts one."""

    def status(self, run_id: str) -> str:
        """One of `unknown`, `running`, `succeeded`, `failed`."""


class DecisionLog(Protocol):
    """The append-only log of decisions."""

    def append(
        self,
        *,
        kind: str,
        subject: str,
        decision: str,
        reason: str,
        evidence: Mapping[str, Any],
        identity: str | None = None,
    ) -> bool:
        """Record a decision with its evidence, unless one with its identity is there already.

        Returns whether this call recorded it.
        """
