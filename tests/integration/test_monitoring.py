"""`python -m monitoring` beside the real event log, object storage, registry and database."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from hearloop import composition
from hearloop.config import Settings
from hearloop.drift.reference import ARTIFACT
from hearloop.recipe import Recipe
from hearloop.stack import Ports, Stack
from hearloop.storage.events import create_topics
from hearloop.storage.objects import S3Objects
from tests.bundles import write_random_bundle
from tests.unit.drift.traffic import RECIPE, Callers, Calls, correct_all, reference

pytestmark = [pytest.mark.stack]

PATIENCE_SECONDS = 90.0

POLICY = {
    "close_after_calls": 3,
    "idle_seconds": 5,  # then the last calls are over
    "enough_minutes": 30,  # all of the changed calls
    "cooldown_hours": 0,
    "budget_runs": 1,
}

A_PIPELINE = """
import argparse, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("verb", choices=["run"])
parser.add_argument("--recipe")
parser.add_argument("--run-id")
print(pathlib.Path(parser.parse_args().recipe).read_text())
"""
"""Stands where `pipelines` is found: the pipeline itself takes minutes and has its own tests."""


def wait_for(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := what()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
    return found


@pytest.fixture
def settings(embedded: Stack, tmp_path: Path) -> Settings:
    """The stack's services with a model, a topic, a bucket and a database of this test's own."""
    embedded.up("objects", "events", "tracking")
    shared, name = embedded.settings, uuid4().hex
    topic = f"transcriptions-{name}"
    own = shared.model_copy(
        update={
            "kafka": shared.kafka.model_copy(update={"transcriptions_topic": topic}),
            "buckets": shared.buckets.model_copy(update={"artifacts": f"artifacts-{name}"}),
            "database_url": f"sqlite:///{tmp_path}/hearloop.db",
            "model_name": f"monitored-{name}",
            "pipeline_runs": tmp_path / "pipelines-runs",
        }
    )
    create_topics(own)
    S3Objects(own).create_bucket(own.buckets.artifacts)
    return own


def champion(settings: Settings, folder: Path) -> str:
    """Register a model with the reference of our callers and promote it."""
    registry = composition.registry(settings)
    version = registry.register(
        write_random_bundle(folder / "bundle", 1),
        run_id=registry.run("base"),
        datasets=[],
        attachments={ARTIFACT: reference().to_json().encode()},
    )
    registry.promote(version)
    return version


@contextmanager
def monitor(
    settings: Settings, folder: Path
) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """A monitor in a process of its own."""
    (folder / "pipelines").mkdir(exist_ok=True)
    (folder / "pipelines" / "__init__.py").touch()  # or else a package elsewhere goes first
    (folder / "pipelines" / "__main__.py").write_text(A_PIPELINE)
    (folder / "recipe.json").write_text(RECIPE.to_json())
    (folder / "policy.json").write_text(json.dumps(POLICY))
    port = Ports.free().monitoring
    command = [sys.executable, "-m", "monitoring", "--recipe", "recipe.json"]
    environment = {"PYTHONPATH": os.getcwd(), "HEARLOOP_MONITOR_POLICY": "policy.json"}
    with (folder / "monitor.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder,
            env={**os.environ, **settings.to_environment(), **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_for(lambda: _watches(client, process, folder / "monitor.log"))
            yield client, process
    finally:
        process.kill()
        process.wait()


def _watches(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_it_watches_through_a_kill_raises_the_alarm_and_starts_one_run(
    settings: Settings, tmp_path: Path
) -> None:
    version = champion(settings, tmp_path)
    log, objects = composition.events(settings), composition.objects(settings)
    topic, bucket = settings.kafka.transcriptions_topic, settings.buckets.artifacts
    calls, callers = Calls(log, objects, topic=topic, bucket=bucket), Callers(1)

    def answer(count: int, *, changed: bool) -> Any:
        now = datetime.now(UTC)
        said = calls.answer(callers, count, at=now, changed=changed, version=version)
        assert log.flush(10.0) == 0
        return said

    with monitor(settings, tmp_path) as (client, process):
        wait_for(lambda: client.get("/v1/status").json()["reference"])
        answer(30, changed=False)
        wait_for(lambda: client.get("/v1/status").json()["calls"] >= 10)
        process.send_signal(signal.SIGKILL)
    changed = answer(30, changed=True)
    with monitor(settings, tmp_path) as (client, process):
        wait_for(lambda: client.get("/v1/status").json()["counts"]["events"] == 120)
        (alarm,) = wait_for(lambda: client.get("/v1/status").json()["alarms"])
        status = client.get("/v1/status").json()
        assert alarm["call_number"] > 30
        assert status["counts"]["malformed"] + status["counts"]["other_version"] == 0
        correct_all(composition.correction_store(settings), changed)
        (run,) = wait_for(lambda: _ended(client))
        assert (run["ended"], run["base"], run["up_to"]) == ("succeeded", version, 60)
        decided = client.get("/v1/decisions", params={"subject": run["run_id"]}).json()
        assert [one["decision"] for one in decided] == ["start", "ended"]
        assert "hearloop_monitor_shift 1.0" in client.get("/metrics").text
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    printed = (settings.pipeline_runs / run["run_id"] / "run.log").read_text()
    assert Recipe.from_json(printed.strip()).corpora[0].up_to == 60  # type: ignore[union-attr]


def _ended(client: httpx.Client) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = client.get("/v1/status").json()["runs"]
    return runs if runs and runs[0]["ended"] else []
