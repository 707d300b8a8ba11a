"""The loop over a real SQL store and decision log, against a router that answers by itself."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from hearloop.config import Settings
from hearloop.errors import ConfigurationError, Conflict, ServiceUnavailable, VersionRefused
from hearloop.recipe import RolloutPolicy
from hearloop.rollout import Reading, RolloutState, Tally, Traffic, roll_out
from hearloop.storage.rollouts import SqlRolloutStore
from hearloop.storage.tables import Decisions, engine
from hearloop.telemetry import Silent

POLICY = RolloutPolicy(steps=(10, 50), requests_per_step=20, patience_seconds=30)


class Killed(BaseException):
    """As if the process had been killed: nothing in the loop catches it."""


class World:
    """A router with callers, a registry and a clock. `kill_at` kills before or after one call."""

    def __init__(self, traffic: Traffic | None, *, broken: bool = False) -> None:
        self.traffic = traffic
        self.broken = broken
        self.refuses: str | None = None
        self.callers = True
        self.away = False
        self.epoch = 0
        self.calls = 0
        self.now = 0.0
        self.champions: list[str] = []
        self.written: list[Traffic] = []
        self.kill_at: int | None = None
        self.outside = 0

    def _touch(self) -> None:
        """Each call to the outside may be the last: odd points die before it, even ones after."""
        self.outside += 1
        if self.kill_at == self.outside:
            raise Killed
        if self.away:
            raise ServiceUnavailable("The server is away.")

    def read(self) -> Reading:
        self._touch()
        if self.traffic and self.traffic.canary and self.callers:
            self.calls += 10
        failed = self.calls if self.broken else 0
        canary = Tally(requests=self.calls, calls=self.calls, failures=failed, failed_calls=failed)
        tallies = {"1": Tally(requests=90, calls=90)}
        if self.traffic and self.traffic.canary:
            tallies[self.traffic.canary] = canary
        reading = Reading(traffic=self.traffic, epoch=str(self.epoch), tallies=tallies)
        self._touch()
        return reading

    def write(self, traffic: Traffic) -> None:
        self._touch()
        if self.refuses in traffic.weights:
            raise VersionRefused(f"Version {self.refuses} is damaged.")
        assert sum(traffic.weights.values()) == 100
        self.written.append(traffic)
        if traffic != self.traffic:
            self.traffic, self.calls = traffic, 0
            self.epoch += 1
        self._touch()

    def promote(self, version: str) -> None:
        self._touch()
        self.champions.append(version)
        self._touch()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def database(tmp_path: Path) -> Engine:
    return engine(Settings(database_url=f"sqlite:///{tmp_path}/hearloop.db"))


def run(world: World, database: Engine, version: str = "2") -> RolloutState:
    return roll_out(
        version,
        router=world,
        store=SqlRolloutStore(database, "hearloop"),
        policy=POLICY,
        registry=world,
        decisions=Decisions(database),
        progress=Silent(),
        clock=world,
    )


def decided(database: Engine) -> list[str]:
    return [entry.decision for entry in Decisions(database).list(kind="rollout")]


def test_a_good_canary_takes_the_traffic_step_by_step(database: Engine) -> None:
    world = World(Traffic(stable="1"))
    assert run(world, database).status == "promoted"
    assert [traffic.weights.get("2", 0) for traffic in world.written] == [10, 50, 100]
    assert world.champions == ["2"]
    assert decided(database) == ["shift to 10 %", "shift to 50 %", "promoted"]
    evidence = Decisions(database).list(kind="rollout")[-1].evidence
    assert [step["percent"] for step in evidence["steps"]] == [10, 50]
    assert min(step["canary"]["requests"] for step in evidence["steps"]) >= 20


def test_a_broken_canary_is_rolled_back_and_the_stable_version_gets_everything(
    database: Engine,
) -> None:
    world = World(Traffic(stable="1"), broken=True)
    assert run(world, database).status == "rolled_back"
    assert world.traffic == Traffic(stable="1")
    assert world.champions == []
    assert decided(database)[-1] == "rolled_back"


def test_a_first_model_goes_straight_into_service(database: Engine) -> None:
    world = World(None)
    assert run(world, database).status == "promoted"
    assert world.written == [Traffic(stable="2")]
    assert world.champions == ["2"]


def test_a_version_that_the_server_refuses_is_rolled_back(database: Engine) -> None:
    world = World(Traffic(stable="1"))
    world.refuses = "2"
    state = run(world, database)
    assert (state.status, state.reason) == ("rolled_back", "refused: Version 2 is damaged.")
    assert world.traffic == Traffic(stable="1")


def test_a_first_model_that_the_server_refuses_is_no_champion(database: Engine) -> None:
    world = World(None)
    world.refuses = "2"
    assert run(world, database).status == "rolled_back"
    assert (world.traffic, world.champions) == (None, [])


def test_no_callers_pause_it_and_the_next_run_goes_on(database: Engine) -> None:
    world = World(Traffic(stable="1"))
    world.callers = False
    assert run(world, database).status == "paused"
    assert world.now >= POLICY.patience_seconds
    assert [traffic.weights.get("2", 0) for traffic in world.written] == [10, 0]
    world.callers = True
    assert run(world, database).status == "promoted"
    assert [traffic.weights.get("2", 0) for traffic in world.written] == [10, 0, 10, 50, 100]


def test_what_has_ended_is_not_done_again(database: Engine) -> None:
    for broken, status in ((False, "promoted"), (True, "rolled_back")):
        version = "3" if broken else "2"
        world = World(Traffic(stable="1"), broken=broken)
        assert run(world, database, version).status == status
        written, champions = list(world.written), list(world.champions)
        assert run(world, database, version).status == status
        assert (world.written, world.champions) == (written, champions)


def test_a_version_that_was_replaced_can_take_the_traffic_again(database: Engine) -> None:
    world = World(Traffic(stable="1"))
    run(world, database)
    world.write(Traffic(stable="1"))
    world.written.clear()
    assert run(world, database).status == "promoted"
    assert [traffic.weights.get("2", 0) for traffic in world.written] == [10, 50, 100]
    assert world.champions == ["2", "2"]


def test_a_version_in_service_already_only_becomes_the_champion(database: Engine) -> None:
    world = World(Traffic(stable="2"))
    assert run(world, database).status == "promoted"
    assert world.champions == ["2"]


@pytest.mark.parametrize("broken", [False, True])
def test_killed_anywhere_it_resumes_to_the_same_end(tmp_path: Path, broken: bool) -> None:
    undisturbed = World(Traffic(stable="1"), broken=broken)
    settings = Settings(database_url=f"sqlite:///{tmp_path}/whole.db")
    expected = run(undisturbed, engine(settings)).status
    for kill_at in range(1, undisturbed.outside + 1):
        world = World(Traffic(stable="1"), broken=broken)
        world.kill_at = kill_at
        database = engine(Settings(database_url=f"sqlite:///{tmp_path}/{kill_at}.db"))
        with pytest.raises(Killed):
            run(world, database)
        state = run(world, database)
        assert (state.status, state.finished) == (expected, True)
        assert world.traffic == undisturbed.traffic
        assert set(world.champions) == set(undisturbed.champions)
        assert len(decided(database)) == len(set(decided(database)))


def test_a_router_that_went_back_to_older_traffic_is_put_right(database: Engine) -> None:
    world = World(Traffic(stable="1"))
    world.callers = False
    run(world, database)
    world.traffic = Traffic(stable="1")
    world.callers = True
    assert run(world, database).status == "promoted"


def test_a_newer_version_takes_the_place_of_a_rollout_that_was_left(database: Engine) -> None:
    world = World(Traffic(stable="1"))
    world.callers = False
    run(world, database)
    assert run(world, database, "3").status == "paused"
    assert [traffic.weights.get("3", 0) for traffic in world.written] == [0, 0, 10, 0]
    assert run(world, database, "2").status == "superseded"


def test_a_promotion_that_was_left_is_finished_before_the_next_rollout(database: Engine) -> None:
    world = World(Traffic(stable="1"))
    store = SqlRolloutStore(database, "hearloop")
    store.save(RolloutState(version="2", stable="1", status="promoted", percent=100))
    run(world, database, "3")
    assert world.champions[0] == "2"
    found = store.read("3")
    assert found is not None
    assert found.stable == "2"


def test_two_loops_over_one_rollout_do_not_both_go_on(database: Engine) -> None:
    world = World(Traffic(stable="1"))
    store = SqlRolloutStore(database, "hearloop")
    ours = store.save(RolloutState(version="2", stable="1"))
    store.save(replace(ours, percent=10))
    with pytest.raises(Conflict, match="version 2"):
        store.save(replace(ours, percent=10))
    assert run(world, database).status == "promoted"


def test_a_server_that_stays_away_ends_in_an_error_that_says_so(database: Engine) -> None:
    world = World(None)
    world.away = True
    with pytest.raises(ServiceUnavailable, match="away"):
        run(world, database)
    assert world.now >= POLICY.patience_seconds


def test_a_server_that_goes_away_in_between_pauses_it(database: Engine) -> None:
    world = World(Traffic(stable="1"))
    world.callers = False
    read: Callable[[], Reading] = world.read

    def read_twice() -> Reading:
        world.away = world.outside > 6
        return read()

    world.read = read_twice  # type: ignore[method-assign]
    assert run(world, database).status == "paused"


@pytest.mark.parametrize("steps", [(), (50, 10), (0,), (100,)])
def test_a_policy_without_sensible_steps_is_refused(
    database: Engine, steps: tuple[int, ...]
) -> None:
    with pytest.raises(ConfigurationError, match="steps"):
        roll_out(
            "2",
            router=World(None),
            store=SqlRolloutStore(database, "hearloop"),
            policy=replace(POLICY, steps=steps),
            registry=World(None),
            decisions=Decisions(database),
            progress=Silent(),
        )
