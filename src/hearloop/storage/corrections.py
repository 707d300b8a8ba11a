"""The store of human corrections in a SQL database: SQLite here, Postgres by settings.

Corrections are never overwritten and never deleted by screening: what was given, by whom and when
stays; only the evidence, the ruling and its reason change.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Engine,
    Float,
    Integer,
    Row,
    Select,
    String,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from hearloop.corrections import (
    Correction,
    Evidence,
    Ruling,
    ScreeningPolicy,
    Status,
    screen,
)
from hearloop.errors import Conflict, NotFound
from hearloop.storage.tables import ensure_tables, metadata, of_person, reading

__all__ = ["SqlCorrectionStore"]

ADD_ATTEMPTS = 50
"""Tries for the next sequence number; each loses only to a writer that got its own."""

CORRECTIONS = Table(
    "corrections",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False, unique=True),
    Column("request_id", String(128), nullable=False),
    Column("call", String(256), nullable=False),
    Column("speaker", String(256)),
    Column("audio_uri", String(1024), nullable=False),
    Column("audio_seconds", Float, nullable=False),
    Column("hypothesis", Text, nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Column("contributor", String(128), nullable=False, index=True),
    Column("received_at", String(40), nullable=False),
    Column("evidence", JSON(none_as_null=True)),
    Column("rivals", Integer, nullable=False),
    Column("status", String(16), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("published", Boolean, nullable=False, index=True),
)


class SqlCorrectionStore:
    """Corrections in arrival order, from sequence number 1 without gaps; safe between threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        ensure_tables(engine, CORRECTIONS)

    def add(self, correction: Correction) -> tuple[Correction, bool]:
        """Store a correction; returns it as stored, and whether this call stored it.

        Sequence numbers are given out in the order of commits, so nothing ever appears behind a
        number that a reader has already seen. Raises Conflict when too many write at once.
        """
        values = _values(correction)
        values["sequence"] = select(
            func.coalesce(func.max(CORRECTIONS.c.sequence), 0) + 1
        ).scalar_subquery()
        for _ in range(ADD_ATTEMPTS):
            stored = self._find(correction.id)
            if stored is not None:
                return stored, False
            try:
                with self._engine.begin() as connection:
                    connection.execute(insert(CORRECTIONS).values(**values))
            except IntegrityError:  # another writer took the number, or stored this correction
                continue
            return self.get(correction.id), True
        raise Conflict(
            f"Correction {correction.id[:12]} found no free place in {ADD_ATTEMPTS} tries; "
            "send it again."
        )

    def get(self, correction_id: str) -> Correction:
        """One correction. Raises NotFound."""
        stored = self._find(correction_id)
        if stored is None:
            raise NotFound(f"No correction has the id {correction_id!r}.")
        return stored

    def list(
        self,
        *,
        after: int = 0,
        up_to: int | None = None,
        statuses: Collection[Status] | None = None,
        limit: int | None = None,
    ) -> Sequence[Correction]:
        """Corrections with `after` < sequence <= `up_to`, in sequence order."""
        query = _between(select(CORRECTIONS), after, up_to).order_by(CORRECTIONS.c.sequence)
        if statuses is not None:
            query = query.where(CORRECTIONS.c.status.in_(statuses))
        return self._read(query.limit(limit))

    def counts(self) -> Mapping[Status, int]:
        """How many corrections there are, by status; a status that none has is left out."""
        query = select(CORRECTIONS.c.status, func.count()).group_by(CORRECTIONS.c.status)
        with reading(self._engine) as connection:
            return dict(connection.execute(query).all())

    def oldest_unreviewed(self, rivals: int) -> datetime | None:
        """When the oldest correction came that still waits to be weighed against `rivals`."""
        query = (
            select(func.min(CORRECTIONS.c.received_at))
            .where(CORRECTIONS.c.status == "waiting")
            .where(CORRECTIONS.c.rivals < rivals)
        )
        with reading(self._engine) as connection:
            received_at = connection.scalar(query)
        return None if received_at is None else datetime.fromisoformat(received_at)

    def last(self) -> int:
        """The highest sequence number given out; 0 in an empty store."""
        with reading(self._engine) as connection:
            return connection.scalar(select(func.max(CORRECTIONS.c.sequence))) or 0

    def fingerprint(self, *, after: int = 0, up_to: int | None = None) -> str:
        """Differs when a correction of the range came in, was weighed, or was ruled on since.

        One short query, whatever the number of corrections.
        """
        columns = CORRECTIONS.c
        query = select(
            columns.status, func.count(), func.sum(columns.sequence), func.sum(columns.rivals)
        )
        query = _between(query, after, up_to).group_by(columns.status).order_by(columns.status)
        with reading(self._engine) as connection:
            return repr([tuple(row) for row in connection.execute(query)])

    def screen(
        self, *, after: int = 0, up_to: int | None = None, policy: ScreeningPolicy | None = None
    ) -> dict[str, Ruling]:
        """Rule on the corrections of the range together and store what became of each.

        `after` is the last sequence number that an earlier training has seen. The same range
        gives the same rulings, so the monitor and the ingestion that it starts agree.
        """
        corrections = self.list(after=after, up_to=up_to)
        rulings = screen(corrections, policy)
        with self._engine.begin() as connection:
            for one in corrections:
                ruling = rulings[one.id]
                if (one.status, one.reason) != (ruling.status, ruling.reason):
                    connection.execute(
                        update(CORRECTIONS)
                        .where(CORRECTIONS.c.id == one.id)
                        .values(status=ruling.status, reason=ruling.reason)
                    )
        return rulings

    def digest(self, *, after: int = 0, up_to: int | None = None) -> str:
        """SHA-256 (hex) of the ids of the accepted corrections of the range, in id order."""
        query = _between(select(CORRECTIONS.c.id), after, up_to)
        with reading(self._engine) as connection:
            ids = connection.scalars(query.where(CORRECTIONS.c.status == "accepted")).all()
        return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()

    def rivals(self, correction: Correction, count: int, *, each: int) -> Sequence[str]:
        """Up to `count` different texts to weigh a correction against, nearest in length first.

        They are other contributors' words for other audio, at most `each` of any one of them, and
        nothing quarantined or rejected: nobody chooses their own rivals, nor has a friend do it.
        """
        text, contributor = CORRECTIONS.c.text, CORRECTIONS.c.contributor
        apart = func.abs(func.length(text) - len(correction.text)).label("apart")
        first = func.min(CORRECTIONS.c.id).label("first")
        by = func.min(contributor).label("by")
        texts = (
            select(text, apart, first, by)
            .where(contributor != correction.contributor)
            .where(CORRECTIONS.c.audio_uri != correction.audio_uri)
            .where(CORRECTIONS.c.status.not_in(("quarantined", "rejected")))
            .where(text != correction.text)
            .where(text != "")
            .group_by(text)
            .subquery()
        )
        nearest = (texts.c.apart, texts.c.first)
        place = func.row_number().over(partition_by=texts.c.by, order_by=nearest)
        ranked = select(texts, place.label("place")).subquery()
        query = (
            select(ranked.c.text)
            .where(ranked.c.place <= each)
            .order_by(ranked.c.apart, ranked.c.first)
            .limit(count)
        )
        with reading(self._engine) as connection:
            return connection.scalars(query).all()

    def unweighed(
        self, rivals: int, limit: int, *, besides: Collection[str] = ()
    ) -> Sequence[Correction]:
        """Corrections that were weighed against fewer than `rivals`, the least weighed first.

        Without those in `besides`, and without confirmations, which need no evidence.
        """
        return self._read(
            select(CORRECTIONS)
            .where(CORRECTIONS.c.rivals < rivals)
            .where(CORRECTIONS.c.text != CORRECTIONS.c.hypothesis)
            .where(CORRECTIONS.c.id.not_in(besides))
            .order_by(CORRECTIONS.c.rivals, CORRECTIONS.c.sequence)
            .limit(limit)
        )

    def set_evidence(self, correction_id: str, evidence: Evidence) -> None:
        """Keep what the recogniser made of a correction."""
        with self._engine.begin() as connection:
            connection.execute(
                update(CORRECTIONS)
                .where(CORRECTIONS.c.id == correction_id)
                .values(evidence=dict(evidence.__dict__), rivals=evidence.rivals)
            )

    def unpublished(self, limit: int) -> Sequence[Correction]:
        """The oldest corrections that the event log has not acknowledged."""
        return self._read(
            select(CORRECTIONS)
            .where(CORRECTIONS.c.published.is_(False))
            .order_by(CORRECTIONS.c.sequence)
            .limit(limit)
        )

    def set_published(self, correction_ids: Collection[str]) -> None:
        """Remember that the event log has acknowledged these corrections."""
        with self._engine.begin() as connection:
            connection.execute(
                update(CORRECTIONS)
                .where(CORRECTIONS.c.id.in_(correction_ids))
                .values(published=True)
            )

    def of_person(
        self, *, speaker: str | None, call: str | None, requests: Collection[str]
    ) -> Sequence[Correction]:
        """Corrections of what this speaker said, in this call, or in these requests."""
        about = of_person(CORRECTIONS, speaker=speaker, call=call, requests=requests)
        return self._read(select(CORRECTIONS).where(about).order_by(CORRECTIONS.c.sequence))

    def empty(self, correction_ids: Collection[str]) -> None:
        """Erase all that these corrections say; their numbers stay, and nobody gets them again.

        What is left has neither text nor hypothesis nor model, so that nothing is learnt from it
        and nobody's errors are counted by it.
        """
        nothing: dict[str, Any] = {
            **dict.fromkeys(("request_id", "call", "audio_uri", "contributor", "reason"), ""),
            **dict.fromkeys(("hypothesis", "text", "model_version"), ""),
            **dict.fromkeys(("speaker", "evidence")),
            "audio_seconds": 0.0,
            "rivals": 0,
            "status": "confirmed",
            "published": True,
        }
        with self._engine.begin() as connection:
            connection.execute(
                update(CORRECTIONS).where(CORRECTIONS.c.id.in_(correction_ids)).values(**nothing)
            )

    def _find(self, correction_id: str) -> Correction | None:
        found = self._read(select(CORRECTIONS).where(CORRECTIONS.c.id == correction_id))
        return found[0] if found else None

    def _read(self, query: Select[Any]) -> Sequence[Correction]:
        with reading(self._engine) as connection:
            return [_correction(row) for row in connection.execute(query)]


def _between(query: Select[Any], after: int, up_to: int | None) -> Select[Any]:
    query = query.where(CORRECTIONS.c.sequence > after)
    return query if up_to is None else query.where(CORRECTIONS.c.sequence <= up_to)


def _values(correction: Correction) -> dict[str, Any]:
    rivals = correction.evidence.rivals if correction.evidence else 0
    return {**correction.to_json(), "rivals": rivals, "published": False}


def _correction(row: Row[Any]) -> Correction:
    fields = dict(row._mapping)
    del fields["published"], fields["rivals"]
    evidence = fields.pop("evidence")
    return Correction(**fields, evidence=None if evidence is None else Evidence(**evidence))
