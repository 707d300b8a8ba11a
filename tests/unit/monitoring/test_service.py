import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from hearloop.drift.policy import MonitorPolicy
from hearloop.drift.watch import Watch
from hearloop.errors import IntegrityError, ServiceUnavailable
from monitoring import service
from monitoring.service import Loop, create_app
from tests.unit.drift.traffic import START, Callers, Deployment, reference

PATIENCE_SECONDS = 30.0
POLICY = MonitorPolicy(close_after_calls=3, enough_minutes=10.0)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    one = Deployment(tmp_path)
    one.promote("1", reference())
    yield one
    one.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLL_SECONDS", "DECIDE_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(service, name, 0.01)


@pytest.fixture
def loop(deployment: Deployment, quick: None) -> Iterator[Loop]:
    one = Loop(deployment.watch(POLICY), crashed=lambda: pytest.fail("the loop has crashed"))
    one.start()
    yield one
    one.stop()


@contextmanager
def served(loop: Loop, deployment: Deployment) -> Iterator[httpx.Client]:
    """A client of the routes on a free port of the loopback."""
    app = create_app(loop, deployment.decisions)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
            yield client
        server.should_exit = True
        thread.join()


def samples(client: httpx.Client) -> dict[str, float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_it_knows_is_told(deployment: Deployment, loop: Loop) -> None:
    with served(loop, deployment) as client:
        deployment.correct(deployment.answer(Callers(1), 30, changed=True))
        wait_until(lambda: bool(client.get("/v1/status").json()["run_in_flight"]))
        wait_until(lambda: client.get("/v1/status").json()["calls"] >= 21)
        assert client.get("/healthz").json() == {"status": "watching", "reason": ""}
        status = client.get("/v1/status").json()
        assert status["reference"] == {
            "version": "1",
            "speakers": 40,
            "conditions": ["golden"],
            "wer": pytest.approx(1 / 16),
        }
        assert status["evidence"]["harm"]["lower"] > 0.2
        decisions = client.get("/v1/decisions").json()
        assert [one["sequence"] for one in decisions] == sorted(
            one["sequence"] for one in decisions
        )
        (start,) = [one for one in decisions if one["decision"] == "start"]
        assert start["subject"] == status["run_in_flight"]
        later = client.get("/v1/decisions", params={"after": start["sequence"]}).json()
        assert all(one["sequence"] > start["sequence"] for one in later)
        only = client.get("/v1/decisions", params={"kind": "reference"}).json()
        assert [one["subject"] for one in only] == ["1"]


def test_metrics_say_the_same_as_the_status(deployment: Deployment, loop: Loop) -> None:
    with served(loop, deployment) as client:
        deployment.answer(Callers(2), 30, changed=True)
        wait_until(lambda: samples(client)["hearloop_monitor_events_total watched"] == 60.0)
        metrics = samples(client)
        assert metrics["hearloop_monitor_shift"] == 1.0
        assert metrics["hearloop_monitor_alarms_total"] == 1.0
        assert metrics["hearloop_monitor_events_total watched"] == 60.0
        assert metrics["hearloop_monitor_statistic_ratio"] >= 1.0
        assert metrics["hearloop_monitor_signal_ratio bandwidth_hz"] > 0.01
        assert metrics["hearloop_monitor_runs in_flight"] == 0.0


def test_metrics_tell_of_decisions_and_of_the_schedule(deployment: Deployment, loop: Loop) -> None:
    with served(loop, deployment) as client:
        wait_until(lambda: "hearloop_monitor_retrain_due_timestamp_seconds" in samples(client))
        metrics = samples(client)
        now = START.timestamp()
        assert metrics["hearloop_monitor_last_decision_timestamp_seconds"] == now
        due = metrics["hearloop_monitor_retrain_due_timestamp_seconds"]
        assert due == now + POLICY.every_hours * 3600
        assert metrics["hearloop_model_registered_timestamp_seconds 1"] == now - 24 * 3600
        assert metrics["hearloop_monitor_decision neither due nor harm"] == 1.0
        assert metrics["hearloop_monitor_decision budget spent"] == 0.0
        limit = metrics["hearloop_monitor_wer_ratio limit"]
        assert limit == pytest.approx(1 / 16 + POLICY.harm_margin)


def test_the_last_decision_grows_old_while_the_monitor_cannot_decide(
    deployment: Deployment, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = "hearloop_monitor_last_decision_timestamp_seconds"

    def away() -> str:
        raise ServiceUnavailable("The registry did not answer.")

    with served(loop, deployment) as client:
        wait_until(lambda: last in samples(client))
        monkeypatch.setattr(deployment.registry, "champion", away)
        wait_until(lambda: client.get("/healthz").status_code == 503)
        deployment.passed = timedelta(hours=1)
        assert samples(client)[last] == START.timestamp()
        monkeypatch.undo()
        wait_until(lambda: samples(client)[last] == START.timestamp() + 3600)


def test_a_service_that_is_away_is_waited_for_and_told(
    deployment: Deployment, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(loop, deployment) as client:

        def away() -> str:
            raise ServiceUnavailable("The registry did not answer.")

        with monkeypatch.context() as patched:
            patched.setattr(deployment.registry, "champion", away)
            wait_until(lambda: client.get("/healthz").status_code == 503)
            assert client.get("/healthz").json()["reason"] == "The registry did not answer."
            assert samples(client)["hearloop_monitor_errors_total"] >= 1.0
        wait_until(lambda: client.get("/healthz").status_code == 200)


def test_any_other_error_ends_it_and_says_so(
    deployment: Deployment, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = threading.Event()
    watch: Watch = deployment.watch(POLICY)
    loop = Loop(watch, crashed=crashed.set)

    def damaged() -> str:
        raise IntegrityError("The reference is damaged.")

    monkeypatch.setattr(deployment.registry, "champion", damaged)
    with served(loop, deployment) as client:
        loop.start()
        assert crashed.wait(PATIENCE_SECONDS)
        loop.stop()
        assert loop.crashed
        assert client.get("/healthz").status_code == 503
        assert "The reference is damaged" in client.get("/healthz").json()["reason"]


def test_it_stops_when_told(deployment: Deployment, quick: None) -> None:
    loop = Loop(deployment.watch(POLICY), crashed=lambda: None)
    loop.start()
    loop.stop()
    assert not loop.crashed
    assert "watch" not in {thread.name for thread in threading.enumerate()}
