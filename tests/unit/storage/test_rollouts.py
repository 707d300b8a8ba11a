from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from hearloop.config import Settings
from hearloop.errors import Conflict, ServiceUnavailable
from hearloop.rollout import RolloutState, Step, Tally, Traffic
from hearloop.storage.rollouts import SqlRolloutStore, SqlTrafficStore
from hearloop.storage.tables import engine


@pytest.fixture
def database(tmp_path: Path) -> Engine:
    return engine(Settings(database_url=f"sqlite:///{tmp_path}/hearloop.db"))


def test_a_state_comes_back_as_it_was_saved(database: Engine) -> None:
    step = Step(
        percent=10, epoch="e", stable=Tally(requests=90, p95_ms=12.5), canary=Tally(requests=9)
    )
    state = RolloutState(version="2", stable="1", percent=10, reason="why", steps=(step,))
    saved = SqlRolloutStore(database, "hearloop").save(state)
    assert saved == replace(state, revision=1)
    assert SqlRolloutStore(database, "hearloop").read("2") == saved
    assert SqlRolloutStore(database, "hearloop").read("3") is None
    assert SqlRolloutStore(database, "another-model").read("2") is None


def test_only_the_latest_revision_may_be_replaced(database: Engine) -> None:
    store = SqlRolloutStore(database, "hearloop")
    first = store.save(RolloutState(version="2", stable="1"))
    store.save(replace(first, percent=10))
    for late in (first, RolloutState(version="2", stable="1")):
        with pytest.raises(Conflict, match="version 2"):
            store.save(late)
    found = store.read("2")
    assert found is not None
    assert (found.percent, found.revision) == (10, 2)


def test_the_unfinished_are_listed_oldest_first(database: Engine) -> None:
    store = SqlRolloutStore(database, "hearloop")
    for version in ("7", "10", "8"):
        state = store.save(RolloutState(version=version, stable="1"))
        if version == "10":
            store.save(replace(state, status="promoted", finished=True))
    assert [state.version for state in store.unfinished()] == ["7", "8"]


def test_traffic_is_replaced_whole(database: Engine) -> None:
    store = SqlTrafficStore(database, "hearloop")
    assert store.read() is None
    canary = Traffic(stable="1", canary="2", canary_percent=10)
    store.write(canary, {"1": "aa", "2": "bb"})
    assert store.read() == (canary, {"1": "aa", "2": "bb"})
    store.write(Traffic(stable="2"), {"2": "bb"})
    assert SqlTrafficStore(database, "hearloop").read() == (Traffic(stable="2"), {"2": "bb"})
    assert SqlTrafficStore(database, "another-model").read() is None


def test_a_database_that_is_away_is_named(tmp_path: Path) -> None:
    (tmp_path / "hearloop.db").mkdir()
    database = engine(Settings(database_url=f"sqlite:///{tmp_path}/hearloop.db"))
    with pytest.raises(ServiceUnavailable, match=r"hearloop\.db"):
        SqlTrafficStore(database, "hearloop").read()
    with pytest.raises(ServiceUnavailable, match=r"hearloop\.db"):
        SqlRolloutStore(database, "hearloop")
