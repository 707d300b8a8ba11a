"""Looking at the drift monitor through its HTTP routes, as a DevOps engineer would."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from demo.charts import DetectorPoint
from hearloop.errors import ServiceUnavailable

__all__ = ["Monitor", "wait_for"]

POLL_S = 0.5

T = TypeVar("T")


class Monitor:
    """The monitor's status and decisions; keeps the trace of its detector."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30.0)
        self.trace: list[DetectorPoint] = []
        self.seen: dict[str, Any] = {}
        """The status that was asked for last."""

    def status(self) -> dict[str, Any]:
        """What the monitor knows now."""
        found: dict[str, Any] = self._get("/v1/status")
        if found["statistic"] > 0:
            self.trace.append(DetectorPoint(call=found["calls"], statistic=found["statistic"]))
        self.seen = found
        return found

    def decisions(self) -> list[dict[str, Any]]:
        """Every decision on record, oldest first."""
        found: list[dict[str, Any]] = self._get("/v1/decisions")
        return found

    def close(self) -> None:
        """Look away."""
        self._client.close()

    def _get(self, path: str) -> Any:
        try:
            return self._client.get(path).raise_for_status().json()
        except httpx.HTTPError as error:
            raise ServiceUnavailable(
                f"The drift monitor did not answer {path} ({error}); its log is in the stack's "
                "folder."
            ) from error


def wait_for(what: str, look: Callable[[], T | None], seconds: float) -> T:
    """Look until something is found. Raises ServiceUnavailable after `seconds`."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise ServiceUnavailable(f"Waited {seconds:g} s in vain for {what}.")
        time.sleep(POLL_S)
    return found
