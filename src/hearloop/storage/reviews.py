"""What waits to be looked at by people, in the database of the corrections.

Utterances are enrolled once, by request id. One is settled when people have corrected it and no
two texts tie for the most votes, or when enough of them could not make it out.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    Float,
    Integer,
    Select,
    String,
    Subquery,
    Table,
    Text,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from hearloop.errors import Conflict, NotFound
from hearloop.events import Transcription
from hearloop.review import Candidate, lot
from hearloop.storage.corrections import CORRECTIONS
from hearloop.storage.tables import ensure_tables, metadata, of_person, reading

__all__ = ["SqlReviewStore"]

MOST_ENROLLED: Final = 50_000
"""Utterances that are remembered; of more, the oldest go: nobody will come to them."""

UNINTELLIGIBLE: Final = 3
"""People who skipped an utterance before it is put up no more."""

REVIEWS = Table(
    "reviews",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("request_id", String(128), nullable=False, unique=True),
    Column("call", String(256), nullable=False),
    Column("speaker", String(256), index=True),
    Column("audio_uri", String(1024), nullable=False),
    Column("audio_seconds", Float, nullable=False),
    Column("text", Text, nullable=False),
    Column("confidence", Float, nullable=False, index=True),
    Column("model_version", String(64), nullable=False),
    Column("received_at", String(40), nullable=False),
    Column("lot", Float, nullable=False, index=True),
    Column("plausibility", Float),
    Column("claimed_by", String(128)),
    Column("claimed_until", DateTime(timezone=True)),
)

SKIPS = Table(
    "review_skips",
    metadata,
    Column("request_id", String(128), primary_key=True),
    Column("contributor", String(128), primary_key=True),
)

FIELDS = ("request_id", "call", "speaker", "audio_uri", "audio_seconds", "text", "confidence",
          "model_version", "received_at")  # fmt: skip


class SqlReviewStore:
    """Utterances that people may review; safe between threads and processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        ensure_tables(engine, REVIEWS, SKIPS, CORRECTIONS)

    def enrol(self, transcriptions: Iterable[Transcription]) -> int:
        """Put answered utterances up, each once; returns how many are new."""
        rows = {
            one.request_id: {
                **{field: getattr(one, field) for field in FIELDS},
                "lot": lot(one.call),
            }
            for one in transcriptions
        }
        known = self._known(rows)
        new = sum(self._insert(row) for request_id, row in rows.items() if request_id not in known)
        if new:
            self._forget_oldest()
        return new

    def waiting(
        self, contributor: str, now: datetime, *, audited_calls: float, limit: int
    ) -> Sequence[Candidate]:
        """What this person may review now: the least confident, the audited and the contested.

        At most `limit` of each kind. What they have corrected or skipped themselves, and what
        others have claimed, is not among them.
        """
        standing = _standing()
        open_to = self._open_to(contributor, now, standing)
        least = open_to.where(standing.c.leaders.is_(None)).order_by(REVIEWS.c.confidence)
        audited = open_to.where(REVIEWS.c.lot < audited_calls).order_by(REVIEWS.c.lot)
        contested = open_to.where(standing.c.leaders > 1).order_by(REVIEWS.c.sequence.desc())
        with reading(self._engine) as connection:
            rows = {
                row.request_id: row
                for query in (least, audited, contested)
                for row in connection.execute(query.limit(limit))
            }
        opinions = self._opinions([row.request_id for row in rows.values() if row.leaders])
        return [_candidate(row, opinions.get(row.request_id, ())) for row in rows.values()]

    def count(self, contributor: str, now: datetime) -> int:
        """How many utterances this person may review."""
        query = self._open_to(contributor, now, _standing()).subquery()
        with reading(self._engine) as connection:
            return connection.scalar(select(func.count()).select_from(query)) or 0

    def find(self, request_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """What is known of utterances, by request id: their transcriptions and who has them."""
        query = select(REVIEWS).where(REVIEWS.c.request_id.in_(request_ids))
        with reading(self._engine) as connection:
            return {row.request_id: _utterance(row) for row in connection.execute(query)}

    def get(self, request_id: str) -> dict[str, Any]:
        """What is known of one utterance. Raises NotFound."""
        found = self.find([request_id])
        if not found:
            raise NotFound(
                f"No utterance {request_id!r} is up for review; take one from the queue."
            )
        return found[request_id]

    def claim(self, request_id: str, contributor: str, *, now: datetime, until: datetime) -> None:
        """Keep an utterance for one person until then; claiming one's own again prolongs it.

        Raises NotFound, and Conflict while somebody else has it.
        """
        free = _unclaimed(contributor, now)
        with self._engine.begin() as connection:
            taken = connection.execute(
                update(REVIEWS)
                .where(REVIEWS.c.request_id == request_id, free)
                .values(claimed_by=contributor, claimed_until=until)
            )
        if not taken.rowcount:
            self.get(request_id)
            raise Conflict(
                f"Somebody else has claimed the utterance {request_id!r}; take the next one."
            )

    def skip(self, request_id: str, contributor: str) -> None:
        """Remember that this person cannot make it out, and let others have it.

        Raises NotFound.
        """
        self.get(request_id)
        mine = (REVIEWS.c.request_id == request_id) & (REVIEWS.c.claimed_by == contributor)
        with self._engine.begin() as connection:
            connection.execute(
                update(REVIEWS).where(mine).values(claimed_by=None, claimed_until=None)
            )
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    insert(SKIPS).values(request_id=request_id, contributor=contributor)
                )
        except IntegrityError:  # skipped already
            return

    def unweighed(self) -> dict[str, Any] | None:
        """The least confident utterance that the version in service was not asked about."""
        standing = _standing()
        query = (
            _joined(standing)
            .where(standing.c.leaders.is_(None), REVIEWS.c.plausibility.is_(None))
            .where(REVIEWS.c.text != "")
            .order_by(REVIEWS.c.confidence)
            .limit(1)
        )
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _utterance(row)

    def set_plausibility(self, request_id: str, plausibility: float) -> None:
        """Keep what the version in service thinks of an answer, nats per character."""
        with self._engine.begin() as connection:
            connection.execute(
                update(REVIEWS)
                .where(REVIEWS.c.request_id == request_id)
                .values(plausibility=plausibility)
            )

    def of_person(
        self, *, speaker: str | None, call: str | None, requests: Collection[str]
    ) -> Sequence[str]:
        """Ids of the requests that wait or waited here: of a speaker, a call, or named ones."""
        about = of_person(REVIEWS, speaker=speaker, call=call, requests=requests)
        query = select(REVIEWS.c.request_id).where(about).order_by(REVIEWS.c.sequence)
        with reading(self._engine) as connection:
            return connection.scalars(query).all()

    def remove(self, request_ids: Collection[str]) -> None:
        """Forget utterances, and who skipped them."""
        with self._engine.begin() as connection:
            connection.execute(delete(SKIPS).where(SKIPS.c.request_id.in_(request_ids)))
            connection.execute(delete(REVIEWS).where(REVIEWS.c.request_id.in_(request_ids)))

    def _open_to(self, contributor: str, now: datetime, standing: Subquery) -> Select[Any]:
        mine = select(CORRECTIONS.c.request_id).where(CORRECTIONS.c.contributor == contributor)
        skipped = select(SKIPS.c.request_id).where(SKIPS.c.contributor == contributor)
        hopeless = (
            select(SKIPS.c.request_id)
            .group_by(SKIPS.c.request_id)
            .having(func.count() >= UNINTELLIGIBLE)
        )
        return (
            _joined(standing)
            .where(or_(standing.c.leaders.is_(None), standing.c.leaders > 1))
            .where(_unclaimed(contributor, now))
            .where(REVIEWS.c.request_id.not_in(mine))
            .where(REVIEWS.c.request_id.not_in(skipped))
            .where(REVIEWS.c.request_id.not_in(hopeless))
        )

    def _opinions(self, request_ids: Collection[str]) -> dict[str, tuple[str, ...]]:
        latest = _latest()
        query = select(latest.c.request_id, latest.c.text).where(
            latest.c.newest == 1, latest.c.request_id.in_(request_ids)
        )
        found: dict[str, tuple[str, ...]] = {}
        with reading(self._engine) as connection:
            for request_id, text in connection.execute(query):
                found[request_id] = (*found.get(request_id, ()), text)
        return found

    def _known(self, request_ids: Collection[str]) -> set[str]:
        query = select(REVIEWS.c.request_id).where(REVIEWS.c.request_id.in_(request_ids))
        with reading(self._engine) as connection:
            return set(connection.scalars(query))

    def _insert(self, row: dict[str, Any]) -> bool:
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(REVIEWS).values(**row))
        except IntegrityError:  # another process has enrolled it
            return False
        return True

    def _forget_oldest(self) -> None:
        newest = select(func.max(REVIEWS.c.sequence)).scalar_subquery()
        with self._engine.begin() as connection:
            old = connection.scalars(
                select(REVIEWS.c.request_id).where(REVIEWS.c.sequence <= newest - MOST_ENROLLED)
            ).all()
            if old:
                connection.execute(delete(SKIPS).where(SKIPS.c.request_id.in_(old)))
                connection.execute(delete(REVIEWS).where(REVIEWS.c.request_id.in_(old)))


def _latest() -> Subquery:
    """Corrections, each contributor's newest one of a request numbered 1."""
    newest = func.row_number().over(
        partition_by=(CORRECTIONS.c.request_id, CORRECTIONS.c.contributor),
        order_by=CORRECTIONS.c.sequence.desc(),
    )
    return select(CORRECTIONS.c.request_id, CORRECTIONS.c.text, newest.label("newest")).subquery()


def _standing() -> Subquery:
    """Of each corrected request how many texts lead the vote: 1 settles it, more is a tie."""
    latest = _latest()
    votes = func.count()
    place = func.rank().over(partition_by=latest.c.request_id, order_by=votes.desc())
    ranked = (
        select(latest.c.request_id, place.label("place"))
        .where(latest.c.newest == 1)
        .group_by(latest.c.request_id, latest.c.text)
        .subquery()
    )
    return (
        select(ranked.c.request_id, func.count().label("leaders"))
        .where(ranked.c.place == 1)
        .group_by(ranked.c.request_id)
        .subquery()
    )


def _joined(standing: Subquery) -> Select[Any]:
    return select(REVIEWS, standing.c.leaders).outerjoin(
        standing, REVIEWS.c.request_id == standing.c.request_id
    )


def _unclaimed(contributor: str, now: datetime) -> Any:
    return or_(
        REVIEWS.c.claimed_by.is_(None),
        REVIEWS.c.claimed_by == contributor,
        REVIEWS.c.claimed_until <= now,
    )


def _utterance(row: Any) -> dict[str, Any]:
    fields = {name: getattr(row, name) for name in (*FIELDS, "claimed_by", "claimed_until")}
    until = fields["claimed_until"]
    if until is not None and until.tzinfo is None:  # SQLite keeps no time zone
        fields["claimed_until"] = until.replace(tzinfo=UTC)
    return fields


def _candidate(row: Any, opinions: tuple[str, ...]) -> Candidate:
    return Candidate(
        request_id=row.request_id,
        call=row.call,
        text=row.text,
        confidence=row.confidence,
        plausibility=row.plausibility,
        opinions=opinions,
    )
