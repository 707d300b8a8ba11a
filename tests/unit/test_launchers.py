import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import psutil
import pytest

from hearloop.errors import NotFound, ServiceUnavailable
from hearloop.launchers import KfpLauncher, SubprocessLauncher

PATIENCE_SECONDS = 30.0


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def launcher(folder: Path, program: str) -> SubprocessLauncher:
    return SubprocessLauncher(folder, [sys.executable, "-c", program])


def over(one: SubprocessLauncher, run_id: str) -> Callable[[], bool]:
    return lambda: one.status(run_id) in ("succeeded", "failed")


GATED = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[2]).parent
(folder / 'at_work').write_text(str(os.getpid()))
while not (folder / 'go').exists():
    time.sleep(0.01)
"""


def test_a_run_gets_its_recipe_and_id_and_its_output_is_kept(tmp_path: Path) -> None:
    one = launcher(
        tmp_path, "import sys; print(open(sys.argv[2]).read(), sys.argv[1], sys.argv[3:])"
    )
    assert one.status("r1") == "unknown"
    one.launch("r1", '{"name": "x"}')
    wait_until(over(one, "r1"))
    assert one.status("r1") == "succeeded"
    assert one.log("r1") == "{\"name\": \"x\"} --recipe ['--run-id', 'r1']\n"


def test_a_failed_run_is_failed_and_stays_so(tmp_path: Path) -> None:
    one = launcher(tmp_path, "raise SystemExit('no disk')")
    one.launch("r1", "{}")
    wait_until(over(one, "r1"))
    one.launch("r1", "{}")
    assert one.status("r1") == "failed"
    assert "no disk" in one.log("r1")


def test_two_launchers_start_one_run_that_outlives_both(tmp_path: Path) -> None:
    first, second = launcher(tmp_path, GATED), launcher(tmp_path, GATED)
    threads = [threading.Thread(target=one.launch, args=("r1", "{}")) for one in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    at_work = tmp_path / "r1" / "at_work"
    wait_until(lambda: at_work.exists() and bool(at_work.read_text()))
    pid = at_work.read_text()
    later = launcher(tmp_path, GATED)
    assert later.status("r1") == "running"
    later.launch("r1", "{}")
    (tmp_path / "r1" / "go").touch()
    wait_until(lambda: all(over(one, "r1")() for one in (first, second, later)))
    assert later.status("r1") == "succeeded"
    assert at_work.read_text() == pid


def test_a_killed_run_has_failed(tmp_path: Path) -> None:
    one = launcher(tmp_path, GATED)
    one.launch("r1", "{}")
    wait_until(lambda: (tmp_path / "r1" / "at_work").exists())
    one.stop("r1")
    wait_until(over(one, "r1"))
    assert one.status("r1") == "failed"
    one.launch("r1", "{}")
    assert one.status("r1") == "failed"


def test_a_run_goes_on_when_only_its_keeper_is_killed(tmp_path: Path) -> None:
    one = launcher(tmp_path, GATED)
    one.launch("r1", "{}")
    wait_until(lambda: (tmp_path / "r1" / "at_work").exists())
    at_work = tmp_path / "r1" / "at_work"
    wait_until(lambda: bool(at_work.read_text()))
    os.kill(psutil.Process(int(at_work.read_text())).ppid(), signal.SIGKILL)
    assert one.status("r1") == "running"
    (tmp_path / "r1" / "go").touch()
    wait_until(over(one, "r1"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServiceUnavailable, match="r1"):
        launcher(tmp_path / "file", "").launch("r1", "{}")
    with pytest.raises(NotFound, match="r1"):
        launcher(tmp_path, "").log("r1")


class KfpServer(BaseHTTPRequestHandler):
    """The few routes of the KFP 2 API that the client calls."""

    runs: list[dict[str, object]]
    schedules: list[dict[str, Any]]
    numbers: Iterator[int]

    def do_GET(self) -> None:
        url = urlparse(self.path)
        if url.path.endswith("/experiments"):
            self._answer({"experiments": [{"experiment_id": "e1", "display_name": "hearloop"}]})
        elif url.path.endswith("/runs"):
            (predicate,) = json.loads(parse_qs(url.query)["filter"][0])["predicates"]
            assert (predicate["operation"], predicate["key"]) == ("EQUALS", "display_name")
            name = predicate["stringValue"]
            self._answer({"runs": [run for run in self.runs if run["display_name"] == name]})
        elif url.path.endswith("/recurringruns"):
            self._answer({"recurringRuns": self.schedules})
        else:
            self._answer({})

    def do_DELETE(self) -> None:
        name = urlparse(self.path).path.rpartition("/")[2]
        self.schedules[:] = [one for one in self.schedules if one["recurring_run_id"] != name]
        self._answer({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/experiments"):
            self._answer({"experiment_id": "e1", "display_name": "hearloop"})
            return
        if self.path.endswith("/recurringruns"):
            self.schedules.append(body | {"recurring_run_id": f"s{next(self.numbers)}"})
            self._answer(self.schedules[-1])
            return
        self.runs.append(body | {"run_id": str(len(self.runs)), "state": "PENDING"})
        self._answer(self.runs[-1])

    def _answer(self, body: dict[str, object]) -> None:
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def kfp_server() -> Iterator[tuple[str, list[dict[str, object]]]]:
    KfpServer.runs, KfpServer.schedules, KfpServer.numbers = [], [], itertools.count(1)
    server = ThreadingHTTPServer(("127.0.0.1", 0), KfpServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", KfpServer.runs
    server.shutdown()
    thread.join()
    server.server_close()


def compiled(folder: Path) -> Path:
    from kfp import compiler, dsl

    @dsl.container_component
    def learn(recipe: str, run_id: str) -> dsl.ContainerSpec:
        return dsl.ContainerSpec(image="hearloop", args=[recipe, run_id])

    @dsl.pipeline(name="learning")
    def learning(recipe: str, run_id: str) -> None:
        learn(recipe=recipe, run_id=run_id)

    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(learning, str(path))
    return path


@pytest.mark.filterwarnings("ignore::FutureWarning:kfp", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_kfp_runs_once_with_its_recipe_and_is_followed(
    tmp_path: Path, kfp_server: tuple[str, list[dict[str, object]]]
) -> None:
    host, runs = kfp_server
    one = KfpLauncher(host, compiled(tmp_path))
    assert one.status("retrain-1") == "unknown"
    one.launch("retrain-1", '{"name": "x"}')
    one.launch("retrain-1", '{"name": "x"}')
    (run,) = runs
    assert run["runtime_config"] == {
        "parameters": {"recipe": '{"name": "x"}', "run_id": "retrain-1"}
    }
    assert one.status("retrain-1") == "running"
    run["state"] = "FAILED"
    assert one.status("retrain-1") == "failed"
    run["state"] = "SUCCEEDED"
    assert one.status("retrain-1") == "succeeded"


@pytest.mark.filterwarnings("ignore::FutureWarning:kfp", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_kfp_steps_run_in_the_image_and_as_the_account_of_the_deployment(
    tmp_path: Path, kfp_server: tuple[str, list[dict[str, object]]]
) -> None:
    host, runs = kfp_server
    package = compiled(tmp_path)
    before = package.read_text()
    KfpLauncher(host, package, image="registry/steps@sha256:1", service_account="steps").launch(
        "r1", "{}"
    )
    (run,) = runs
    assert run["service_account"] == "steps"
    (executor,) = run["pipeline_spec"]["deploymentSpec"]["executors"].values()  # type: ignore[index]
    assert executor["container"]["image"] == "registry/steps@sha256:1"
    assert package.read_text() == before


@pytest.mark.filterwarnings("ignore::FutureWarning:kfp", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_schedule_of_the_same_name_takes_the_place_of_the_earlier_one(
    tmp_path: Path, kfp_server: tuple[str, list[dict[str, object]]]
) -> None:
    host, _ = kfp_server
    one = KfpLauncher(host, compiled(tmp_path), service_account="steps")
    one.schedule("weekly", '{"name": "x"}', "0 0 3 * * 1")
    one.schedule("weekly", '{"name": "y"}', "0 0 4 * * 1")
    (schedule,) = KfpServer.schedules
    assert schedule["display_name"] == "weekly"
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * 1"
    assert schedule["runtime_config"]["parameters"] == {"recipe": '{"name": "y"}'}
    assert schedule["service_account"] == "steps"
    assert (schedule["max_concurrency"], schedule["mode"]) == (1, "ENABLE")
    assert schedule["no_catchup"] is True


@pytest.mark.filterwarnings("ignore::FutureWarning:kfp", "ignore::DeprecationWarning")
def test_a_kfp_server_that_is_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9\b"):
        KfpLauncher("http://127.0.0.1:9", tmp_path / "none.yaml").status("r1")
