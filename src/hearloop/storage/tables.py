"""What Hearloop remembers in SQL: SQLite here, Postgres by URL.

This module holds the one MetaData, the engine, and the table that several rooms write: the
append-only log of decisions. Rollouts and corrections have their tables beside it.

    >>> Decisions(engine(settings)).append(
    ...     kind="retrain", subject="run-5f2c", decision="start", reason="harm on 14 calls"
    ... )
    True
"""

import hashlib
import uuid
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    ExceptionContext,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    inspect,
    or_,
    select,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError as DuplicateKey
from sqlalchemy.exc import OperationalError

from hearloop.config import Settings
from hearloop.errors import ConfigurationError, ServiceUnavailable

__all__ = ["Decision", "Decisions", "engine", "ensure_tables", "metadata", "of_person", "reading"]

BUSY_SECONDS = 30.0
"""How long a writer waits for another before SQLite calls the database locked."""

READS = "hearloop_reads"
"""Execution option of connections that write nothing."""

metadata = MetaData()

decisions = Table(
    "decisions",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("identity", String(64), nullable=False, unique=True),
    Column("kind", String(32), nullable=False, index=True),
    Column("subject", String(128), nullable=False, index=True),
    Column("decision", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)


def engine(settings: Settings) -> Engine:
    """An engine for the settings' database. Connections are made when first needed.

    Whatever is asked of it raises ServiceUnavailable while the database is away.
    """
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        if url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        database = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
        # Whoever lets go of the engine closes its files too; Python 3.13 warns of those left open.
        weakref.finalize(database, database.pool.dispose)
        event.listen(database, "connect", _configure_sqlite)
        event.listen(database, "begin", _begin_sqlite)
    else:
        database = create_engine(url, pool_pre_ping=True)
    event.listen(database, "handle_error", _say_that_it_is_away)
    return database


def _say_that_it_is_away(context: ExceptionContext) -> None:
    """Raise ServiceUnavailable in place of what a driver says of a database that is away."""
    if isinstance(context.sqlalchemy_exception, OperationalError) and context.engine is not None:
        raise ServiceUnavailable(
            f"The database {context.engine.url.render_as_string()} cannot be used: "
            f"{context.original_exception}; check HEARLOOP_DATABASE_URL."
        ) from context.original_exception


def reading(database: Engine) -> Connection:
    """A connection for queries alone: in SQLite they neither wait for a writer nor hold one up."""
    return database.connect().execution_options(**{READS: True})


def of_person(
    table: Table, *, speaker: str | None, call: str | None, requests: Collection[str]
) -> ColumnElement[bool]:
    """Rows about what this speaker said, in this call, or in these requests; None names nobody."""
    names = (table.c.speaker, speaker), (table.c.call, call)
    named = [column == name for column, name in names if name is not None]
    return or_(*named, table.c.request_id.in_(requests))


def ensure_tables(database: Engine, *tables: Table) -> None:
    """Create the tables that are missing; processes may race.

    Raises ConfigurationError for tables of another version of Hearloop and ServiceUnavailable
    for a database that cannot be used.
    """
    with reading(database) as connection:
        there = set(inspect(connection).get_table_names())
    if not there.issuperset(table.name for table in tables):
        with database.begin() as connection:
            metadata.create_all(connection, tables=tables)
    with reading(database) as connection:
        for table in tables:
            _require_columns(connection, table)


def _require_columns(connection: Connection, table: Table) -> None:
    there = {column["name"] for column in inspect(connection).get_columns(table.name)}
    missing = [column.name for column in table.columns if column.name not in there]
    if missing:
        raise ConfigurationError(
            f"The table {table.name} of {connection.engine.url.render_as_string()} was made by "
            f"another version of Hearloop: it has no {', '.join(missing)}. Add what is missing, "
            "or let HEARLOOP_DATABASE_URL name another database."
        )


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One decision with its evidence, as it was recorded."""

    sequence: int
    kind: str
    subject: str
    decision: str
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    at: datetime
    """UTC."""


class Decisions:
    """The append-only log of decisions, the ones to do nothing too."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        ensure_tables(database, decisions)

    def append(
        self,
        *,
        kind: str,
        subject: str,
        decision: str,
        reason: str,
        evidence: Mapping[str, Any] | None = None,
        identity: str | None = None,
    ) -> bool:
        """Record a decision. Returns False if one with the same `identity` is there already.

        A caller that may be killed and run again gives an identity derived from what it decides
        about; without one, each call records.
        """
        row = {
            "identity": hashlib.sha256((identity or uuid.uuid4().hex).encode()).hexdigest(),
            "kind": kind,
            "subject": subject,
            "decision": decision,
            "reason": reason,
            "evidence": dict(evidence or {}),
            "at": datetime.now(UTC),
        }
        try:
            with self._database.begin() as connection:
                connection.execute(insert(decisions).values(**row))
        except DuplicateKey:
            return False
        return True

    def list(
        self, *, kind: str | None = None, subject: str | None = None, after: int = 0
    ) -> Sequence[Decision]:
        """Decisions with a sequence number greater than `after`, oldest first."""
        query = select(decisions).where(decisions.c.sequence > after).order_by("sequence")
        if kind is not None:
            query = query.where(decisions.c.kind == kind)
        if subject is not None:
            query = query.where(decisions.c.subject == subject)
        with reading(self._database) as connection:
            return [_decision(row._mapping) for row in connection.execute(query)]


def _decision(row: Mapping[Any, Any]) -> Decision:
    at = row["at"]
    return Decision(
        sequence=row["sequence"],
        kind=row["kind"],
        subject=row["subject"],
        decision=row["decision"],
        reason=row["reason"],
        evidence=row["evidence"],
        at=at if at.tzinfo else at.replace(tzinfo=UTC),  # SQLite keeps no time zone
    )


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: `_begin_sqlite` does
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: a transaction that reads first cannot wait for it later.

    Not for what only reads: SQLite has one write lock for the whole file.
    """
    reads = connection.get_execution_options().get(READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
