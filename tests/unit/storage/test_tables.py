import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select

from hearloop.config import Settings
from hearloop.errors import ConfigurationError, ServiceUnavailable
from hearloop.storage.tables import Claims, Decisions, claims, engine


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


def test_of_many_that_claim_at_once_one_owns(settings: Settings) -> None:
    ready = threading.Barrier(8)

    def claim(number: int) -> bool:
        mine = Claims(engine(settings))  # each with connections of its own, as processes have
        ready.wait()
        return mine.claim("run-1", owner=f"monitor-{number}")

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(claim, range(8)))

    assert sum(won) == 1
    assert Claims(engine(settings)).owner("run-1") == f"monitor-{won.index(True)}"


def test_an_owner_that_asks_again_still_owns(database: Engine) -> None:
    owned = Claims(database)
    assert owned.owner("run-1") is None
    assert owned.claim("run-1", owner="a")
    assert owned.claim("run-1", owner="a")
    assert not owned.claim("run-1", owner="b")


def test_transactions_that_read_before_they_write_wait_for_each_other(settings: Settings) -> None:
    """SQLite refuses to turn a read into a write once others wrote, unless it began as one."""
    Claims(engine(settings))

    def count_up(number: int) -> None:
        database = engine(settings)
        for turn in range(5):
            with database.begin() as connection:
                seen = len(connection.execute(select(claims)).all())
                row = {"key": str(seen), "owner": f"{number}-{turn}", "at": datetime.now(UTC)}
                connection.execute(insert(claims).values(**row))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_up, range(4)))

    with engine(settings).connect() as connection:
        assert {int(key) for key in connection.scalars(select(claims.c.key))} == set(range(20))


def test_tables_of_another_version_are_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    with sqlite3.connect(tmp_path / "deep" / "hearloop.db") as old:
        old.execute("CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT)")
    old.close()
    with pytest.raises(ConfigurationError, match=r"claims .* has no at\."):
        Claims(engine(settings))


def test_a_database_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(ServiceUnavailable, match=r"folder\.db"):
        Claims(engine(Settings(database_url=f"sqlite:///{tmp_path}/folder.db")))
