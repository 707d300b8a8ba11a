"""The quality features of each utterance in Feast, and their point-in-time join.

The repository is a folder: `registry.db`, and in `rows/` the offline store with one Parquet file
for each snapshot. A snapshot is immutable, so writing it again replaces a file by itself. The
online store (SQLite) stays empty: nothing asks for an utterance's quality while it is served.

    >>> store = FeatureStore(settings.feature_repository)
    >>> store.write(snapshot.digest, rows)
    >>> store.joined([("call-7-02", asked_at)])
      utterance  duration_s  snr_db  ...
"""

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hearloop.datasets import CutRow
from hearloop.errors import NotFound
from hearloop.hidden_imports import load_feast
from hearloop.quality import SIGNALS, speaking_rate

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore as FeastStore
    from feast import FeatureView

__all__ = ["VIEW", "FeatureStore", "UtteranceQuality"]

PROJECT = "hearloop"
VIEW = "utterance_quality"
"""Name of the feature view: one row of `hearloop.quality.SIGNALS` for each utterance."""


@dataclass(frozen=True, kw_only=True)
class UtteranceQuality:
    """What the store keeps of one utterance.

    recorded_at: when it was said, with a time zone; signals: by the names of `SIGNALS`.
    """

    utterance: str
    recorded_at: datetime
    signals: dict[str, float]

    @classmethod
    def of(cls, row: CutRow) -> "UtteranceQuality":
        """The signals of a cut, its speaking rate by its transcript."""
        rate = speaking_rate(row.text, row.seconds)
        return cls(
            utterance=row.id,
            recorded_at=row.recorded_at,
            signals=asdict(row.quality) | {"speaking_rate": rate},
        )


class FeatureStore:
    """Feast's local provider over one folder; its entity and view are applied when it is read."""

    def __init__(self, repository: Path) -> None:
        self._rows = repository / "rows"
        self._rows.mkdir(parents=True, exist_ok=True)
        self._repository = repository.absolute()

    def write(self, snapshot: str, rows: Iterable[UtteranceQuality]) -> None:
        """Keep the rows of one snapshot; again with the same rows changes nothing."""
        import pandas as pd

        table = pd.DataFrame(
            [
                {"utterance": row.utterance, "event_timestamp": row.recorded_at, **row.signals}
                for row in rows
            ]
        )
        descriptor, partial = tempfile.mkstemp(dir=self._repository, suffix=".parquet")
        os.close(descriptor)
        table.to_parquet(partial, index=False)
        os.replace(partial, self._rows / f"{snapshot}.parquet")

    def joined(self, asked: Sequence[tuple[str, datetime]]) -> "pd.DataFrame":
        """Signals of each (utterance id, time) as they were known at that time.

        Returns (len(asked), 1 + len(SIGNALS)): `utterance`, then one column for each signal, in
        the order asked. Raises NotFound when an utterance was not known by its time.
        """
        import pandas as pd

        store, view = self._applied()
        entities = pd.DataFrame(asked, columns=["utterance", "event_timestamp"])
        found = store.get_historical_features(
            entity_df=entities, features=[f"{view.name}:{signal.name}" for signal in SIGNALS]
        ).to_df()
        # Feast's dask store leaves out, in silence, what was not known yet (0.67).
        signals = [signal.name for signal in SIGNALS]
        table = entities.merge(found, on=["utterance", "event_timestamp"], how="left")
        unknown = table.loc[table[signals].isna().all(axis="columns"), "utterance"]
        if len(unknown):
            raise NotFound(
                f"The feature store in {self._repository} does not know {len(unknown)} of "
                f"{len(asked)} utterances at the time asked for, {unknown.iloc[0]!r} among them; "
                "run the extract step on their snapshot first."
            )
        return table[["utterance", *signals]]

    def _applied(self) -> "tuple[FeastStore, FeatureView]":
        """The store with its one entity and one view; applying them again changes nothing."""
        load_feast()
        from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
        from feast.types import Float64
        from feast.value_type import ValueType

        store = FeatureStore(
            config=RepoConfig(
                project=PROJECT,
                provider="local",
                registry=str(self._repository / "registry.db"),
                offline_store={"type": "dask"},
                online_store={"type": "sqlite", "path": str(self._repository / "online.db")},
                entity_key_serialization_version=3,
            )
        )
        utterance = Entity(name="utterance", join_keys=["utterance"], value_type=ValueType.STRING)
        view = FeatureView(
            name=VIEW,
            entities=[utterance],
            schema=[
                Field(name=signal.name, dtype=Float64, description=signal.description)
                for signal in SIGNALS
            ],
            source=FileSource(path=str(self._rows), timestamp_field="event_timestamp"),
        )
        store.apply([utterance, view])
        return store, view
