"""The version that live calls are compared with, and what it expects of them."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from hearloop.drift.detectors import Comparison
from hearloop.drift.policy import MonitorPolicy
from hearloop.drift.reference import ARTIFACT, Reference
from hearloop.drift.signals import SIGNALS
from hearloop.errors import NotFound

__all__ = ["Champion", "Champions", "load"]

log = logging.getLogger(__name__)


class Champions(Protocol):
    """The part of the model registry that the monitor reads."""

    def champion(self) -> str | None:
        """Version in production, or None."""

    def registered_at(self, version: str) -> datetime:
        """When a version was registered, UTC. Raises NotFound."""

    def attachment(self, version: str, name: str) -> bytes:
        """A file that was attached to a version. Raises NotFound."""


@dataclass(frozen=True, kw_only=True)
class Champion:
    """One version in production. Without a reference no call can be compared."""

    version: str
    registered_at: datetime
    reference: Reference | None
    comparison: Comparison | None

    @property
    def wer(self) -> float | None:
        """Word error rate in its hardest known condition."""
        return self.reference.wer if self.reference else None

    def decision(self) -> dict[str, Any]:
        """What the log of decisions says of it."""
        speakers = self.reference.speakers if self.reference else 0
        return {
            "kind": "reference",
            "subject": self.version,
            "decision": "reset" if self.reference else "cannot compare",
            "reason": f"Version {self.version} is champion; its reference has {speakers} speakers."
            if self.reference
            else f"Version {self.version} is champion and has no {ARTIFACT}; no shift can be seen.",
            "evidence": {"speakers": speakers, "wer": self.wer},
        }


def load(version: str, champions: Champions, policy: MonitorPolicy) -> Champion:
    """A version with its reference. Raises what the registry raises, NotFound for the version."""
    registered_at = champions.registered_at(version)
    try:
        reference = Reference.from_json(champions.attachment(version, ARTIFACT))
    except NotFound as error:
        log.warning("%s", error)
        return Champion(
            version=version, registered_at=registered_at, reference=None, comparison=None
        )
    comparison = Comparison(reference, signals=SIGNALS, error=policy.reference_error)
    return Champion(
        version=version, registered_at=registered_at, reference=reference, comparison=comparison
    )
