"""What a registered model learnt from and was judged on, back to the first model.

Written once beside each registered version (`lineage.json`) and read by `hearloop lineage`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter

from hearloop.errors import IntegrityError

__all__ = ["ARTIFACT", "CorrectionRange", "DatasetUse", "Lineage"]

ARTIFACT = "lineage.json"
"""Name of the attachment that holds it."""

LEARNT_FROM = ("train", "dev", "replay", "corrections")
"""Contexts of data that shaped the weights; dev data chose among them."""


@dataclass(frozen=True, kw_only=True)
class CorrectionRange:
    """Human corrections inside a snapshot."""

    first: int
    """Sequence number of the first correction that was considered."""
    last: int
    """Sequence number of the last one."""
    ids: tuple[str, ...]
    """Those that were taken, in sequence order."""
    contributors: int = 0
    """How many people gave those that were taken."""


@dataclass(frozen=True, kw_only=True)
class DatasetUse:
    """One snapshot, or a part of one, and what it was used for."""

    context: str
    """`train`, `dev`, `replay`, `golden`, `new` or `corrections`."""
    snapshot: str
    """SHA-256 of the snapshot's manifest."""
    uri: str
    utterances: int
    seconds: float
    """Of audio."""
    corrections: CorrectionRange | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    """What was measured on it, as in `{"wer": 0.041}`: fractions."""


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """One version and, through `parent`, every version that its weights began from."""

    version: str
    bundle: str
    """SHA-256 of the bundle's manifest."""
    run_id: str
    """MLflow run of the training."""
    datasets: tuple[DatasetUse, ...]
    parent: "Lineage | None" = None

    @property
    def learnt_from(self) -> tuple[DatasetUse, ...]:
        """The datasets that shaped the weights of this version, not those of its parents."""
        return tuple(use for use in self.datasets if use.context in LEARNT_FROM)

    def ancestors(self) -> Iterator["Lineage"]:
        """This version, its parent, the parent's parent and so on."""
        at: Lineage | None = self
        while at is not None:
            yield at
            at = at.parent

    def to_json(self) -> str:
        """The whole lineage as JSON."""
        return _LINEAGE.dump_json(self, indent=2).decode()

    def record(self) -> bytes:
        """This version alone as JSON: what is kept beside the model."""
        return _LINEAGE.dump_json(replace(self, version="", parent=None))

    @classmethod
    def from_record(cls, body: bytes, *, version: str, parent: "Lineage | None") -> "Lineage":
        """Read what `record` wrote. Raises IntegrityError."""
        try:
            return replace(_LINEAGE.validate_json(body), version=version, parent=parent)
        except ValueError as error:
            raise IntegrityError(
                f"The lineage of version {version} cannot be read ({error}); "
                "restore its artifacts from a backup."
            ) from error


_LINEAGE = TypeAdapter(Lineage)
