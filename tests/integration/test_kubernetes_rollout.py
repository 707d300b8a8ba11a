"""A rollout over an InferenceService: KServe's rules and timing, and an API server that fails."""

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, start_http_server

from hearloop.cluster import Resources
from hearloop.errors import InvalidInput, ServiceUnavailable, VersionRefused
from hearloop.rollout import Tally, Traffic
from hearloop.rollout.inference_service import (
    MODEL_VERSION,
    SCALERS,
    SERVICES,
    InferenceServiceRouter,
)
from hearloop.rollout.tallies import PrometheusTallies, increase
from tests.integration.kserve_controller import SERVICE, Counted, KServe
from tests.integration.kubernetes_api import Resource, kubernetes_api

PATIENCE_SECONDS = 30.0


@pytest.fixture
def kserve() -> Iterator[KServe]:
    with kubernetes_api() as api:
        running = KServe(api)
        api.store.create(
            SERVICE,
            {
                "apiVersion": "serving.kserve.io/v1beta1",
                "kind": "InferenceService",
                "metadata": {"name": "hearloop"},
                "spec": {
                    "predictor": {
                        "minReplicas": 2,
                        "maxReplicas": 10,
                        "model": {
                            "name": "kserve-container",
                            "runtime": "hearloop",
                            "env": [{"name": "OTHER", "value": "kept"}],
                        },
                    }
                },
            },
        )
        yield running
    running.stop()


def router(kserve: KServe, ready_seconds: float = PATIENCE_SECONDS) -> InferenceServiceRouter:
    api = kserve.api.client()
    return InferenceServiceRouter(
        "hearloop",
        services=Resources(SERVICES, "hearloop", api=api),
        scalers=Resources(SCALERS, "hearloop", api=api),
        tallies=Counted(),
        ready_seconds=ready_seconds,
    )


def spec(kserve: KServe) -> Resource:
    read: Resource = kserve.api.store.read(SERVICE)["spec"]
    return read


def in_force(kserve: KServe, weights: dict[str, int]) -> bool:
    end = time.monotonic() + PATIENCE_SECONDS
    with kserve.api.store.changed:
        while not kserve.shown or kserve.shown[-1] != weights:
            if not kserve.api.store.changed.wait(end - time.monotonic()):
                return False
    return True


STEPS = (
    Traffic(stable="7"),
    Traffic(stable="7", canary="8", canary_percent=20),
    Traffic(stable="7", canary="8", canary_percent=50),
    Traffic(stable="8"),
)


def test_a_rollout_from_the_first_model_to_the_next(kserve: KServe) -> None:
    one = router(kserve)
    assert one.read().traffic is None
    for traffic in STEPS:
        one.write(traffic)
        assert one.read().traffic == traffic
        assert in_force(kserve, traffic.weights)
        one.write(traffic)
    assert kserve.shown == [
        {"": 100},
        {"7": 100},
        {"7": 80, "8": 20},
        {"7": 50, "8": 50},
        {"8": 100},
    ]
    predictor = spec(kserve)["predictor"]
    assert predictor["name"] == "v8"
    assert {"name": "OTHER", "value": "kept"} in predictor["model"]["env"]
    assert "canary" not in spec(kserve)


def test_rollback_drops_the_canary_and_nothing_else(kserve: KServe) -> None:
    one = router(kserve)
    one.write(STEPS[0])
    before = spec(kserve)
    one.write(STEPS[1])
    assert spec(kserve)["canary"][0]["predictor"]["name"] == "v8"
    one.write(STEPS[0])
    assert spec(kserve) == before


@pytest.mark.parametrize("first", [None, STEPS[0]])
def test_a_version_that_is_never_ready_takes_no_traffic(
    kserve: KServe, first: Traffic | None
) -> None:
    if first:
        router(kserve).write(first)
    before = spec(kserve)
    kserve.broken.add("8")
    for traffic in (STEPS[3], STEPS[1]) if first else (STEPS[3],):
        with pytest.raises(VersionRefused, match=r"Version 8 .* hearloop-v8-predictor"):
            router(kserve, ready_seconds=0.5).write(traffic)
        assert spec(kserve) == before
    assert not any("8" in weights for weights in kserve.shown)


def test_others_write_the_service_too(kserve: KServe) -> None:
    one = router(kserve)
    one.write(STEPS[0])
    kserve.api.fail("replace", "touched", "touched", "touched")
    one.write(STEPS[1])
    assert in_force(kserve, STEPS[1].weights)
    assert kserve.api.store.read(SERVICE)["metadata"]["labels"], "what the others wrote is kept"


def test_one_who_always_writes_first_is_named(kserve: KServe) -> None:
    one = router(kserve)
    kserve.api.fail("replace", *["touched"] * 100)
    with pytest.raises(ServiceUnavailable, match="look who else writes it"):
        one.write(STEPS[0])


@pytest.mark.parametrize("fault", ["500", "cut", "lost"])
def test_faults_of_the_api_do_not_show_in_the_traffic(kserve: KServe, fault: str) -> None:
    one = router(kserve)
    for traffic in STEPS:
        kserve.api.fail("get", "503" if fault == "lost" else fault)
        kserve.api.fail("replace", fault)
        kserve.api.fail("watch", "broken")
        one.write(traffic)
        assert in_force(kserve, traffic.weights)
    assert all(sum(weights.values()) == 100 for weights in kserve.shown)


def test_a_controller_that_was_killed_goes_on(kserve: KServe) -> None:
    """Killed while it waits for the canary: the next one finds it, and sets it again."""
    router(kserve).write(STEPS[0])
    kserve.broken.add("8")
    with pytest.raises(VersionRefused):
        router(kserve, ready_seconds=0.2).write(STEPS[1])
    halfway = kserve.api.store.read(SERVICE)
    canary = {"name": "v8", "minReplicas": 1, "model": halfway["spec"]["predictor"]["model"]}
    pinned = {**canary["model"], "env": [{"name": MODEL_VERSION, "value": "8"}]}
    halfway["spec"]["canary"] = [{"trafficPercent": 0, "predictor": {**canary, "model": pinned}}]
    kserve.api.store.replace(SERVICE, halfway)
    kserve.broken.clear()
    again = router(kserve)
    assert again.read().traffic == STEPS[0], "a canary of 0 % is no traffic"
    again.write(STEPS[3])
    assert in_force(kserve, STEPS[3].weights)


def test_autoscalers_of_versions_that_are_gone_go_too(kserve: KServe) -> None:
    one = router(kserve)
    for traffic in STEPS[:3]:
        one.write(traffic)
    labels = {"serving.kserve.io/inferenceservice": "hearloop"}
    for name in ("hearloop-v7-predictor", "hearloop-v8-predictor"):
        key = ("scaledobjects", name)
        manifest = {
            "kind": "ScaledObject",
            "metadata": {"name": name, "labels": labels},
            "spec": {},
        }
        kserve.api.store.create(key, manifest)
    one.write(STEPS[3])
    left = [name for plural, name in kserve.api.store.objects if plural == "scaledobjects"]
    assert left == ["hearloop-v8-predictor"]


def test_evidence_begins_anew_with_the_traffic(kserve: KServe) -> None:
    one = router(kserve)
    one.write(STEPS[1])
    first, again = one.read(), one.read()
    assert first.epoch == again.epoch
    assert first.tallies.keys() == {"7", "8"}
    one.write(STEPS[2])
    later = one.read()
    assert later.epoch != first.epoch
    assert later.traffic == STEPS[2]


def test_a_version_that_cannot_be_a_name_is_refused(kserve: KServe) -> None:
    with pytest.raises(InvalidInput, match=r"Version '\.\./8'"):
        router(kserve).write(Traffic(stable="../8"))


# Tallies


@given(
    replicas=st.lists(
        st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=20), max_size=4
    ),
    moment=st.integers(0, 20),
)
@settings(deadline=None, derandomize=True)
def test_increase_counts_everything_after_the_moment_once(
    replicas: list[list[tuple[int, bool]]], moment: int
) -> None:
    """A counter that is read every second, and that is set to 0 by a restart now and then."""
    for steps in replicas:
        value, samples, expected = 0, [], 0
        for second, (added, restarted) in enumerate(steps):
            # A restart that is not followed by as many counts at once is seen as a fall.
            restarted = restarted and added < value
            value = added if restarted else value + added
            samples.append((float(second), str(value)))
            expected += added if second > moment else 0
        assert increase(samples, moment) == expected


class Answers(BaseHTTPRequestHandler):
    """A Prometheus that answers what it is told to."""

    status, body = 200, "{}"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, ""),
        (200, "<h1>Login</h1>"),
        (200, json.dumps({"status": "error", "error": "too many samples"})),
    ],
)
def test_a_prometheus_that_cannot_answer_is_named(status: int, body: str) -> None:
    answers = type("Told", (Answers,), {"status": status, "body": body})
    with served(answers) as url, pytest.raises(ServiceUnavailable, match="PROMETHEUS_URL"):
        PrometheusTallies(url, "hearloop").now()


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_a_real_prometheus_scraped_becomes_tallies(tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    registry = CollectorRegistry()
    requests = Counter("hearloop_requests", "Utterances", ["version", "outcome"], registry=registry)
    calls = Counter("hearloop_calls", "Calls", ["version", "outcome"], registry=registry)

    def answer(version: str, outcome: str) -> None:
        requests.labels(version, outcome).inc()
        calls.labels(version, "begun").inc()
        if outcome != "answered":
            calls.labels(version, outcome).inc()

    for _ in range(5):
        answer("7", "answered")
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    with prometheus(tmp_path, server.server_port) as url:
        tallies = PrometheusTallies(url, "hearloop")
        wait_until(lambda: scraped(url) == 5)
        began = tallies.now()
        assert tallies.since(began, ["7", "8"]) == {"7": Tally(), "8": Tally()}
        for outcome in ("answered", "failed", "empty", "refused"):
            answer("8", outcome)
        answer("7", "answered")
        wait_until(lambda: scraped(url) == 10)
        seen = tallies.since(began, ["7", "8"])
    server.shutdown()
    thread.join()
    server.server_close()
    assert seen["7"] == Tally(requests=1, calls=1)
    assert seen["8"] == Tally(
        requests=3, failures=1, empty=1, calls=4, failed_calls=1, empty_calls=1
    )


def scraped(url: str) -> float:
    """Utterances that Prometheus knows of; 0 before it is ready."""
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": "sum(hearloop_requests_total)"})
        found = answer.json()["data"]["result"]
    except (httpx.HTTPError, ValueError, KeyError):
        return 0.0
    return float(found[0]["value"][1]) if found else 0.0


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[str]:
    """Prometheus itself on a free port, scraping one target every 200 ms."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "prometheus.yml").write_text(
        "scrape_configs:\n"
        "  - job_name: hearloop\n"
        "    scrape_interval: 200ms\n"
        "    scrape_timeout: 200ms\n"
        "    static_configs:\n"
        f"      - {{targets: ['127.0.0.1:{target}'], labels: {{namespace: hearloop}}}}\n"
    )
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
