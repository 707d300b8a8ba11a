"""A training in a TrainJob, from its creation to its bundle, while the API server fails."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hearloop.architecture import Architecture
from hearloop.bundle import verify
from hearloop.cluster import Resources
from hearloop.config import TrainJobSettings
from hearloop.errors import TrainingFailed
from hearloop.export import write_bundle
from hearloop.model import Network
from hearloop.recipe import TrainingConfig
from hearloop.testing import InMemoryObjects
from hearloop.tokenizer import Tokenizer
from hearloop.training import TrainingSummary, TrainJobLauncher, train
from hearloop.training.remote import RemoteTraining
from hearloop.training.request import Candidate, TrainingRequest
from hearloop.training.trainjob import JOBS
from tests.integration.kubernetes_api import KubernetesApi, kubernetes_api

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
SETTINGS = TrainJobSettings(
    runtime="hearloop-training", nodes=2, gpus=1, queue="hearloop", priority="hearloop-training"
)


class Trainer:
    """Kubeflow Trainer and the pods: works on each job as it is created, in a thread of its own."""

    def __init__(self, api: KubernetesApi, run: Callable[[dict[str, Any]], str]) -> None:
        self.api, self.run = api, run
        self.created: list[dict[str, Any]] = []
        self._seen = 0
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def stop(self) -> None:
        self._thread.join()

    def _work(self) -> None:
        store = self.api.store
        while True:
            with store.changed:
                while not self.api.ending and self._seen == len(store.history):
                    store.changed.wait()
                if self.api.ending:
                    return
                news, self._seen = store.history[self._seen :], len(store.history)
            for event in news:
                if event.kind == "ADDED":
                    self.created.append(event.resource)
                    self._finish(event.key, self.run(event.resource))

    def _finish(self, key: tuple[str, str], outcome: str) -> None:
        suspended = {"type": "Suspended", "status": "False", "reason": "R", "message": "admitted"}
        self.api.store.set_status(key, conditions=[suspended])
        if outcome:
            over = {"type": outcome, "status": "True", "reason": "R", "message": "why"}
            self.api.store.set_status(key, conditions=[suspended, over])


@pytest.fixture
def cluster() -> Iterator[Callable[[Callable[[dict[str, Any]], str]], Trainer]]:
    trainers: list[Trainer] = []
    with kubernetes_api() as api:

        def start(run: Callable[[dict[str, Any]], str]) -> Trainer:
            trainers.append(Trainer(api, run))
            return trainers[-1]

        yield start
    for trainer in trainers:
        trainer.stop()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    architecture = Architecture(vocabulary=len(Tokenizer()), front_channels=8, hidden=8, layers=1)
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("trained") / "bundle"
    write_bundle(directory, Network(architecture), Tokenizer(), training="t")
    return directory


def launch(trainer: Trainer, objects: InMemoryObjects, folder: Path) -> TrainingSummary:
    jobs = Resources(JOBS, SETTINGS.namespace, api=trainer.api.client())
    launcher = TrainJobLauncher(
        SETTINGS, objects, bucket="artifacts", cache=folder / "cache", jobs=jobs
    )
    return train(
        TrainingConfig(steps=5),
        sets=[],
        base_bundle=None,
        output=folder / "output",
        work=folder / "work",
        launcher=launcher,
    )


def pods(objects: InMemoryObjects, bundle: Path, folder: Path) -> Callable[[dict[str, Any]], str]:
    """Pods that find the request of their job, and leave the bundle as its answer."""

    def work(job: dict[str, Any]) -> str:
        (place,) = job["spec"]["trainer"]["args"]
        request = TrainingRequest.from_json(objects.get(f"{place}/request.json"))
        assert request.config.steps == 5
        RemoteTraining(place, objects, folder / "pod").answer(bundle, SUMMARY)
        return "Complete"

    return work


def test_creates_the_job_waits_and_fetches_its_bundle(
    cluster: Callable[..., Trainer], bundle: Path, tmp_path: Path
) -> None:
    objects = InMemoryObjects()
    trainer = cluster(pods(objects, bundle, tmp_path))
    assert launch(trainer, objects, tmp_path) == SUMMARY
    assert verify(tmp_path / "output").digest == verify(bundle).digest
    (job,) = trainer.created
    assert job["spec"]["trainer"]["numNodes"] == 2
    assert job["spec"]["trainer"]["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "1"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "hearloop"
    # A second run elsewhere finds the answer and starts nothing.
    assert launch(trainer, objects, tmp_path / "again") == SUMMARY
    assert len(trainer.created) == 1


def test_faults_of_the_api_cost_time_and_nothing_else(
    cluster: Callable[..., Trainer], bundle: Path, tmp_path: Path
) -> None:
    objects = InMemoryObjects()
    trainer = cluster(pods(objects, bundle, tmp_path))
    trainer.api.fail("create", "500", "lost")
    trainer.api.fail("get", "503", "cut")
    trainer.api.fail("watch", "broken", "expired", "500")
    assert launch(trainer, objects, tmp_path) == SUMMARY
    assert len(trainer.created) == 1


def test_a_failed_job_says_why_and_the_next_try_makes_it_anew(
    cluster: Callable[..., Trainer], bundle: Path, tmp_path: Path
) -> None:
    objects = InMemoryObjects()
    succeed = pods(objects, bundle, tmp_path)
    trainer = cluster(lambda job: "Failed" if len(trainer.created) == 1 else succeed(job))
    with pytest.raises(TrainingFailed, match="failed: why"):
        launch(trainer, objects, tmp_path)
    assert launch(trainer, objects, tmp_path) == SUMMARY
    first, second = trainer.created
    assert first["spec"] == second["spec"], "the same folder: it goes on from the checkpoint"


def test_a_job_that_somebody_deletes_is_a_failure(
    cluster: Callable[..., Trainer], tmp_path: Path
) -> None:
    trainer = cluster(lambda job: "")
    names = []

    def delete() -> None:
        store = trainer.api.store
        with store.changed:
            while not any(job.get("status") for job in store.objects.values()):
                store.changed.wait()
            names.extend(store.objects)
        store.delete(names[0])

    thread = threading.Thread(target=delete)
    thread.start()
    with pytest.raises(TrainingFailed, match="was deleted"):
        launch(trainer, InMemoryObjects(), tmp_path)
    thread.join()


def test_a_job_that_leaves_no_model_is_a_failure(
    cluster: Callable[..., Trainer], tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match="left no summary"):
        launch(cluster(lambda job: "Complete"), InMemoryObjects(), tmp_path)
