"""Rollouts and the traffic in force, in a SQL database: SQLite here, Postgres by settings."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Engine,
    Integer,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from hearloop.errors import Conflict
from hearloop.rollout import RolloutState, Traffic
from hearloop.storage.tables import ensure_tables, metadata, reading

__all__ = ["SqlRolloutStore", "SqlTrafficStore"]

ROLLOUTS = Table(
    "rollouts",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("finished", Boolean, nullable=False),
    Column("began_at", String(40), nullable=False),
    Column("state", JSON, nullable=False),
)

TRAFFIC = Table(
    "traffic",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("traffic", JSON, nullable=False),
    Column("bundles", JSON, nullable=False),
)


class SqlRolloutStore:
    """The rollouts of one registered model."""

    def __init__(self, engine: Engine, model: str) -> None:
        self._engine = engine
        self._model = model
        ensure_tables(engine, ROLLOUTS)

    def read(self, version: str) -> RolloutState | None:
        """The rollout of `version`, or None."""
        query = select(ROLLOUTS.c.state).where(
            ROLLOUTS.c.model == self._model, ROLLOUTS.c.version == version
        )
        with reading(self._engine) as connection:
            state = connection.execute(query).scalar()
        return None if state is None else RolloutState.from_json(state)

    def unfinished(self) -> Sequence[RolloutState]:
        """The rollouts that have not finished, oldest first."""
        query = (
            select(ROLLOUTS.c.state)
            .where(ROLLOUTS.c.model == self._model, ROLLOUTS.c.finished.is_(False))
            .order_by(ROLLOUTS.c.began_at)
        )
        with reading(self._engine) as connection:
            return [RolloutState.from_json(state) for state in connection.execute(query).scalars()]

    def save(self, state: RolloutState) -> RolloutState:
        """Store the state as its next revision. Raises Conflict when another loop saved first."""
        saved = replace(state, revision=state.revision + 1)
        values = {
            "revision": saved.revision,
            "finished": saved.finished,
            "state": saved.to_json(),
        }
        try:
            with self._engine.begin() as connection:
                if state.revision == 0:
                    stored = connection.execute(
                        insert(ROLLOUTS).values(
                            model=self._model,
                            version=state.version,
                            began_at=datetime.now(UTC).isoformat(),
                            **values,
                        )
                    ).rowcount
                else:
                    stored = connection.execute(
                        update(ROLLOUTS)
                        .where(
                            ROLLOUTS.c.model == self._model,
                            ROLLOUTS.c.version == state.version,
                            ROLLOUTS.c.revision == state.revision,
                        )
                        .values(**values)
                    ).rowcount
        except IntegrityError:
            stored = 0
        if stored != 1:
            raise Conflict(
                f"Another process changed the rollout of version {state.version} after revision "
                f"{state.revision}; let that one go on."
            )
        return saved


class SqlTrafficStore:
    """The traffic that the model server last accepted: what it returns to after a restart."""

    def __init__(self, engine: Engine, model: str) -> None:
        self._engine = engine
        self._model = model

    def read(self) -> tuple[Traffic, Mapping[str, str]] | None:
        """The stored traffic and the digests of its versions' bundles. Raises ServiceUnavailable.

        None when nothing is stored.
        """
        query = select(TRAFFIC.c.traffic, TRAFFIC.c.bundles).where(TRAFFIC.c.model == self._model)
        ensure_tables(self._engine, TRAFFIC)
        with reading(self._engine) as connection:
            stored = connection.execute(query).one_or_none()
        return None if stored is None else (Traffic(**stored.traffic), stored.bundles)

    def write(self, traffic: Traffic, bundles: Mapping[str, str]) -> None:
        """Store the traffic in place of what was stored. Raises ServiceUnavailable."""
        ensure_tables(self._engine, TRAFFIC)
        row = {"model": self._model, "traffic": asdict(traffic), "bundles": dict(bundles)}
        with self._engine.begin() as connection:
            connection.execute(delete(TRAFFIC).where(TRAFFIC.c.model == self._model))
            connection.execute(insert(TRAFFIC).values(**row))
