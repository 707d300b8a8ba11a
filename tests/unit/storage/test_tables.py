import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, insert, select, text

from hearloop.config import Settings
from hearloop.errors import ConfigurationError, ServiceUnavailable
from hearloop.storage.corrections import SqlCorrectionStore
from hearloop.storage.rollouts import SqlRolloutStore
from hearloop.storage.tables import Decisions, engine, reading


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(database_url=f"sqlite:///{tmp_path}/deep/hearloop.db")


@pytest.fixture
def database(settings: Settings) -> Engine:
    return engine(settings)


def test_decisions_come_back_as_recorded_and_in_order(database: Engine) -> None:
    log = Decisions(database)
    for subject, decision in (("run-1", "wait"), ("run-2", "retrain"), ("run-1", "retrain")):
        assert log.append(
            kind="trigger", subject=subject, decision=decision, reason="…", evidence={"n": [1, 2]}
        )
    log.append(kind="gate", subject="run-1", decision="pass", reason="better")

    found = log.list()
    assert [each.decision for each in found] == ["wait", "retrain", "retrain", "pass"]
    assert [each.sequence for each in found] == sorted(each.sequence for each in found)
    assert found[0].evidence == {"n": [1, 2]}
    assert abs(datetime.now(UTC) - found[0].at) < timedelta(minutes=1)
    assert [each.kind for each in log.list(subject="run-1")] == ["trigger", "trigger", "gate"]
    assert [each.decision for each in log.list(kind="trigger", subject="run-2")] == ["retrain"]
    assert log.list(after=found[2].sequence) == found[3:]


def test_a_decision_with_an_identity_is_recorded_once(database: Engine) -> None:
    log = Decisions(database)

    def append(decision: str) -> bool:
        return log.append(
            kind="gate", subject="run-1", decision=decision, reason="…", identity="run-1/gate"
        )

    assert append("pass")
    assert not append("reject")
    assert [each.decision for each in log.list()] == ["pass"]


def test_of_many_that_record_the_same_decision_at_once_one_does(settings: Settings) -> None:
    ready = threading.Barrier(8)

    def append(number: int) -> bool:
        log = Decisions(engine(settings))  # each with connections of its own, as processes have
        ready.wait()
        return log.append(
            kind="gate", subject="run-1", decision=str(number), reason="…", identity="i" * 200
        )

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(append, range(8)))

    assert sum(won) == 1
    (kept,) = Decisions(engine(settings)).list()
    assert kept.decision == str(won.index(True))


def test_transactions_that_read_before_they_write_wait_for_each_other(settings: Settings) -> None:
    """SQLite refuses to turn a read into a write once others wrote, unless it began as one."""
    numbers = Table("numbers", MetaData(), Column("number", Integer, primary_key=True))
    numbers.metadata.create_all(engine(settings))

    def count_up(_: int) -> None:
        database = engine(settings)
        for _ in range(5):
            with database.begin() as connection:
                seen = len(connection.execute(select(numbers)).all())
                connection.execute(insert(numbers).values(number=seen))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_up, range(4)))

    with engine(settings).connect() as connection:
        assert set(connection.scalars(select(numbers.c.number))) == set(range(20))


def test_readers_and_a_writer_do_not_wait_for_each_other(settings: Settings) -> None:
    log = Decisions(engine(settings))
    log.append(kind="gate", subject="run-1", decision="pass", reason="better")
    with engine(settings).begin() as writing:  # holds SQLite's one write lock
        assert len(log.list()) == 1
        assert Decisions(engine(settings)).list() == log.list()
        with reading(engine(settings)) as connection:
            connection.execute(select(text("1"))).all()
            writing.execute(text("DELETE FROM decisions"))
    assert log.list() == []


def test_tables_of_another_version_are_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    with sqlite3.connect(tmp_path / "deep" / "hearloop.db") as old:
        old.execute("CREATE TABLE decisions (sequence INTEGER PRIMARY KEY, reason TEXT)")
    old.close()
    with pytest.raises(ConfigurationError, match=r"decisions .* has no identity, kind"):
        Decisions(engine(settings))


def test_a_database_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(ServiceUnavailable, match=r"folder\.db"):
        Decisions(engine(Settings(database_url=f"sqlite:///{tmp_path}/folder.db")))


def test_a_database_that_goes_away_is_named_by_whatever_is_asked_of_it(
    settings: Settings, tmp_path: Path
) -> None:
    log, corrections = Decisions(engine(settings)), SqlCorrectionStore(engine(settings))
    rollouts = SqlRolloutStore(engine(settings), "hearloop")
    with engine(settings).begin() as connection:
        for table in ("decisions", "corrections", "rollouts"):
            connection.execute(text(f"DROP TABLE {table}"))
    asked: tuple[Callable[[], object], ...] = (
        log.list,
        lambda: log.append(kind="gate", subject="run-1", decision="pass", reason="better"),
        corrections.last,
        corrections.counts,
        rollouts.unfinished,
    )
    for question in asked:
        with pytest.raises(ServiceUnavailable, match=r"hearloop\.db cannot be used: no such table"):
            question()
