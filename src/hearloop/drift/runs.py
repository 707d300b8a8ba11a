"""The retrains that monitors started: claimed before launch, so that two monitors start one.

    s3://<bucket>/monitor/runs/<epoch>.json           the claim, written once, by whoever was first
    s3://<bucket>/monitor/runs/<epoch>.ended.json     how it ended, written once

The epoch counts claims. A new one is claimed only after the one before has ended, and creation is
conditional, so at most one run is in flight whatever the number of monitors.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime

from hearloop.errors import IntegrityError
from hearloop.ports import ObjectStore

__all__ = ["Run", "Runs"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One retrain that a monitor claimed."""

    epoch: int
    """From 0, without gaps."""
    run_id: str
    base: str
    """Version of the champion at the time."""
    reason: str
    after: int
    """The run learns from corrections with a sequence number above this one …"""
    up_to: int
    """… and no higher than this one."""
    corrections: int
    """How many accepted ones that were."""
    recipe: str
    """JSON of the recipe that was launched."""
    claimed_at: str
    """ISO 8601, UTC, by the clock of the monitor that claimed it."""
    ended: str | None = None
    """`promoted`, `succeeded` (its model did not become champion) or `failed`; None while it is
    in flight."""

    def hours_since(self, now: datetime) -> float:
        """Hours since the claim; 0 when another monitor's clock is ahead."""
        passed = now - datetime.fromisoformat(self.claimed_at)
        return max(0.0, passed.total_seconds() / 3600)


class Runs:
    """The claims in object storage."""

    def __init__(self, objects: ObjectStore, bucket: str) -> None:
        self._objects = objects
        self._prefix = f"s3://{bucket}/monitor/runs/"
        self._ended: dict[str, Run] = {}
        """Runs that have ended never change again, by URI."""

    def all(self) -> list[Run]:
        """All runs, oldest first."""
        uris = set(self._objects.list(self._prefix))
        claims = sorted(uri for uri in uris if not uri.endswith(".ended.json"))
        return [
            self._ended.get(uri) or self._read(uri, has_ended=_ended(uri) in uris) for uri in claims
        ]

    def claim(self, run: Run) -> bool:
        """Claim the run's epoch. Returns whether this call was the first to do so."""
        body = {name: value for name, value in run.__dict__.items() if name != "ended"}
        return self._objects.create(
            self._uri(run.epoch), json.dumps(body).encode(), content_type="application/json"
        )

    def end(self, run: Run, outcome: str) -> bool:
        """Record how a run ended. Returns whether this call was the first to do so."""
        return self._objects.create(
            _ended(self._uri(run.epoch)),
            json.dumps({"outcome": outcome}).encode(),
            content_type="application/json",
        )

    def _uri(self, epoch: int) -> str:
        return f"{self._prefix}{epoch:08d}.json"

    def _read(self, uri: str, *, has_ended: bool) -> Run:
        try:
            run = Run(**json.loads(self._objects.get(uri)))
            if not has_ended:
                return run
            outcome = json.loads(self._objects.get(_ended(uri)))["outcome"]
            self._ended[uri] = replace(run, ended=outcome)
            return self._ended[uri]
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"The record of a retrain at {uri} cannot be read ({error!r}); "
                "another version of the monitor wrote it, or it was damaged."
            ) from error


def _ended(uri: str) -> str:
    return uri.removesuffix(".json") + ".ended.json"
