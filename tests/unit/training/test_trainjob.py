"""The launcher against a small Kubernetes API over HTTP: what it asks, what it makes of it."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from kubernetes import client

from hearloop.architecture import Architecture
from hearloop.bundle import verify
from hearloop.config import TrainJobSettings
from hearloop.errors import ServiceUnavailable, TrainingFailed
from hearloop.export import write_bundle
from hearloop.model import Network
from hearloop.recipe import TrainingConfig
from hearloop.testing import InMemoryObjects
from hearloop.tokenizer import Tokenizer
from hearloop.training import TrainingSummary, TrainJobLauncher, train
from hearloop.training.remote import RemoteTraining
from hearloop.training.request import Candidate, TrainingRequest

SUMMARY = TrainingSummary(
    steps=5,
    seconds=1.0,
    audio_seconds_per_second=100.0,
    dev_wer=0.1,
    share=1.0,
    candidates=(Candidate(share=1.0, new_wer=0.1, old_wer=None),),
    before=None,
    checkpoints_failed=0,
    curve_points_lost=0,
)


class Cluster(ThreadingHTTPServer):
    """Keeps TrainJobs as the API does; `run` stands in for the pods of a new one."""

    daemon_threads = True

    def __init__(self, run: Callable[[dict[str, Any]], str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.created = 0
        self.run = run

    def api(self) -> client.ApiClient:
        return client.ApiClient(
            client.Configuration(host=f"http://127.0.0.1:{self.server_address[1]}")
        )

    def create(self, job: dict[str, Any]) -> bool:
        if job["metadata"]["name"] in self.jobs:
            return False
        self.created += 1
        job["metadata"]["resourceVersion"] = "1"
        self.jobs[job["metadata"]["name"]] = job
        return True

    def finish(self, job: dict[str, Any]) -> None:
        condition = {"type": self.run(job), "status": "True", "reason": "R", "message": "why"}
        job["status"] = {"conditions": [condition]}


class _Handler(BaseHTTPRequestHandler):
    server: Cluster

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(201 if self.server.create(job) else 409, job)

    def do_GET(self) -> None:
        if "watch=True" not in self.path:
            name = self.path.rpartition("/")[2]
            self._answer(200, self.server.jobs[name])
            return
        (job,) = self.server.jobs.values()
        self.server.finish(job)
        self._answer(200, {"type": "MODIFIED", "object": job})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode() + b"\n")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[dict[str, Any]], str]], Cluster]]:
    clusters: list[Cluster] = []

    def start(run: Callable[[dict[str, Any]], str]) -> Cluster:
        clusters.append(Cluster(run))
        threading.Thread(target=clusters[-1].serve_forever, daemon=True).start()
        return clusters[-1]

    yield start
    for cluster in clusters:
        cluster.shutdown()
        cluster.server_close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    architecture = Architecture(vocabulary=len(Tokenizer()), front_channels=8, hidden=8, layers=1)
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("trained") / "bundle"
    write_bundle(directory, Network(architecture), Tokenizer(), training="t")
    return directory


def launch(cluster: Cluster, objects: InMemoryObjects, folder: Path) -> TrainingSummary:
    settings = TrainJobSettings(image="hearloop:1", nodes=2)
    launcher = TrainJobLauncher(
        settings, objects, bucket="artifacts", cache=folder / "cache", api=cluster.api()
    )
    return train(
        TrainingConfig(steps=5),
        sets=[],
        base_bundle=None,
        output=folder / "output",
        work=folder / "work",
        launcher=launcher,
    )


def test_creates_the_job_waits_and_fetches_its_bundle(
    serve: Callable[..., Cluster], bundle: Path, tmp_path: Path
) -> None:
    objects = InMemoryObjects()

    def pods(job: dict[str, Any]) -> str:
        (folder,) = job["spec"]["trainer"]["args"]
        request = TrainingRequest.from_json(objects.get(f"{folder}/request.json"))
        assert request.config.steps == 5
        RemoteTraining(folder, objects, tmp_path / "pod").answer(bundle, SUMMARY)
        return "Complete"

    cluster = serve(pods)
    assert launch(cluster, objects, tmp_path) == SUMMARY
    assert verify(tmp_path / "output").digest == verify(bundle).digest
    (job,) = cluster.jobs.values()
    assert job["spec"]["trainer"]["numNodes"] == 2
    # A second run elsewhere finds the answer and starts nothing.
    assert launch(cluster, objects, tmp_path / "again") == SUMMARY
    assert cluster.created == 1


def test_adopts_a_job_that_is_there_and_says_why_it_failed(
    serve: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = serve(lambda job: "Failed")
    for _ in range(2):
        with pytest.raises(TrainingFailed, match="failed: why"):
            launch(cluster, InMemoryObjects(), tmp_path)
    assert cluster.created == 1


def test_a_job_that_leaves_no_model_is_a_failure(
    serve: Callable[..., Cluster], tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match="left no summary"):
        launch(serve(lambda job: "Complete"), InMemoryObjects(), tmp_path)


def test_an_api_that_does_not_answer_is_named(
    serve: Callable[..., Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = serve(lambda job: "Complete")
    monkeypatch.setattr(cluster, "create", lambda job: 1 / 0)
    monkeypatch.setattr(cluster, "handle_error", lambda *_: None)
    with pytest.raises(ServiceUnavailable, match="Kubernetes API"):
        launch(cluster, InMemoryObjects(), tmp_path)
