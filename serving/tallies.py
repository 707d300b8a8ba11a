"""What each version did since the traffic was last changed: the evidence of a rollout."""

import bisect
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from hearloop.rollout import Tally

__all__ = ["Counter", "Outcome", "Session"]

Outcome = Literal["answered", "empty", "failed"]

BUCKETS_MS = tuple(1.1**power for power in range(100))
"""Upper bounds of the latency histogram: 1 ms to 12.5 s, each 10 % above the last."""


@dataclass(kw_only=True)
class Session:
    """One call on one version. A request without a call is a session of its own."""

    version: str
    epoch: str
    seen: float
    """When it was last used, in seconds of the monotonic clock."""
    counted: bool = False
    failed: bool = False
    empty: bool = False


@dataclass
class Counter:
    """The counts of one version in one epoch. Not safe between threads by itself."""

    requests: int = 0
    failures: int = 0
    empty: int = 0
    calls: int = 0
    failed_calls: int = 0
    empty_calls: int = 0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_MS) + 1))

    def add(self, session: Session, outcome: Outcome, seconds: float, epoch: str) -> None:
        """Count one request; the call counts too if it began in this epoch."""
        self.requests += 1
        self.failures += outcome == "failed"
        self.empty += outcome == "empty"
        self.latencies[bisect.bisect_left(BUCKETS_MS, seconds * 1000)] += 1
        if session.epoch == epoch:
            self._add_call(session, outcome)

    def _add_call(self, session: Session, outcome: Outcome) -> None:
        self.calls += not session.counted
        session.counted = True
        if outcome == "failed":
            self.failed_calls += not session.failed
            session.failed = True
        if outcome == "empty":
            self.empty_calls += not session.empty
            session.empty = True

    def tally(self) -> Tally:
        """The counts as the rollout reads them."""
        return Tally(
            requests=self.requests,
            failures=self.failures,
            empty=self.empty,
            calls=self.calls,
            failed_calls=self.failed_calls,
            empty_calls=self.empty_calls,
            p50_ms=self._quantile(0.5),
            p95_ms=self._quantile(0.95),
        )

    def _quantile(self, share: float) -> float | None:
        """Upper bound of the bucket that holds the quantile, in ms; None without requests."""
        if not self.requests:
            return None
        bucket = bisect.bisect_left(list(accumulate(self.latencies)), share * self.requests)
        return round(BUCKETS_MS[min(bucket, len(BUCKETS_MS) - 1)], 1)
