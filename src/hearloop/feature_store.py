"""The quality features of each utterance in Feast, and their point-in-time join.

    s3://<bucket>/quality/<snapshot>.parquet   the rows of one snapshot, written once it is analysed

Feast reads them from a folder of this machine: `registry.db`, and in `rows/` copies of those
files, each fetched when it is first asked for. A snapshot is immutable, so writing it again
replaces a file by itself. Nothing asks for an utterance's quality while it is served; what is
asked for then, phrases of tenants and speakers (`hearloop.phrase_store`), is in the online store
alone: `define_phrases`.

    >>> store = FeatureStore(settings.feature_repository, objects, "hearloop-artifacts")
    >>> store.write(snapshot.digest, rows)
    >>> store.joined([("call-7-02", asked_at)], snapshots=[snapshot.digest])
      utterance  duration_s  snr_db  ...
"""

import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hearloop.datasets import CutRow
from hearloop.errors import NotFound
from hearloop.files import write_atomically
from hearloop.hidden_imports import load_feast
from hearloop.phrase_store import SPEAKER_VIEW, TENANT_VIEW
from hearloop.ports import ObjectStore
from hearloop.quality import SIGNALS, speaking_rate

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore as FeastStore
    from feast import FeatureView

__all__ = ["VIEW", "FeatureStore", "UtteranceQuality", "define_phrases"]

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

    def __init__(self, repository: Path, objects: ObjectStore, bucket: str) -> None:
        """`repository`: folder of this machine; `bucket`: where every machine finds the rows."""
        self._rows = repository / "rows"
        self._rows.mkdir(parents=True, exist_ok=True)
        self._repository = repository.absolute()
        self._objects = objects
        self._bucket = bucket

    def write(self, snapshot: str, rows: Iterable[UtteranceQuality]) -> None:
        """Keep the rows of one snapshot; again with the same rows changes nothing."""
        import pandas as pd

        table = pd.DataFrame(
            [
                {"utterance": row.utterance, "event_timestamp": row.recorded_at, **row.signals}
                for row in rows
            ]
        )
        body = table.to_parquet(index=False)
        self._objects.put(self._uri(snapshot), body)
        write_atomically(self._copy(snapshot), body)

    def forget(self, snapshot: str, utterances: Collection[str], *, successor: str) -> None:
        """Leave rows of the other utterances alone, for the snapshot's `successor` too.

        A snapshot that was never analysed has none.
        """
        import pandas as pd

        stored = [uri for uri in map(self._uri, (snapshot, successor)) if self._objects.exists(uri)]
        if not stored:
            return
        table = pd.read_parquet(io.BytesIO(self._objects.get(stored[0])))
        body = table[~table["utterance"].isin(utterances)].to_parquet(index=False)
        self._objects.put(self._uri(successor), body)
        self._objects.erase(self._uri(snapshot))
        self._objects.put(self._uri(snapshot), body)  # whoever knows the old name asks for it
        self._copy(snapshot).unlink(missing_ok=True)

    def joined(
        self, asked: Sequence[tuple[str, datetime]], *, snapshots: Iterable[str]
    ) -> "pd.DataFrame":
        """Signals of each (utterance id, time) as they were known at that time.

        `snapshots`: those that the utterances are in; their rows may have been written elsewhere.
        Returns (len(asked), 1 + len(SIGNALS)): `utterance`, then one column for each signal, in
        the order asked. Raises NotFound when an utterance was not known by its time, or a
        snapshot at all.
        """
        import pandas as pd

        for snapshot in snapshots:
            self._fetch(snapshot)
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

    def _fetch(self, snapshot: str) -> None:
        """Copy the rows of a snapshot to this machine, unless they are here."""
        if self._copy(snapshot).exists():
            return
        try:
            body = self._objects.get(self._uri(snapshot))
        except NotFound:
            raise NotFound(
                f"The feature store does not know the snapshot {snapshot[:12]}; run the extract "
                "step on it first."
            ) from None
        write_atomically(self._copy(snapshot), body)

    def _uri(self, snapshot: str) -> str:
        return f"s3://{self._bucket}/quality/{snapshot}.parquet"

    def _copy(self, snapshot: str) -> Path:
        return self._rows / f"{snapshot}.parquet"

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


def define_phrases(configuration: Path) -> "FeastStore":
    """Define the views of `hearloop.phrase_store` in the store of a feature_store.yaml.

    Again changes nothing. Returns the store.
    """
    load_feast()
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource
    from feast.types import Array, Float64, String
    from feast.value_type import ValueType

    store = FeatureStore(fs_yaml_file=configuration)
    fields = {
        "tenant": (TENANT_VIEW, {"tenant_phrases": String, "tenant_boosts": Float64}),
        "speaker": (SPEAKER_VIEW, {"speaker_words": String}),
    }
    for name, (view, arrays) in fields.items():
        entity = Entity(name=name, join_keys=[name], value_type=ValueType.STRING)
        source = FileSource(  # Feast asks for one; nothing is ever read from it
            name=f"{view}_offline", path=f"{view}.parquet", timestamp_field="event_timestamp"
        )
        schema = [Field(name=field, dtype=Array(kind)) for field, kind in arrays.items()]
        store.apply(
            [entity, FeatureView(name=view, entities=[entity], schema=schema, source=source)]
        )
    return store
