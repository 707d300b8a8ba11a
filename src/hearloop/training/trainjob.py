"""Training in a cluster: a Kubeflow Trainer v2 TrainJob whose pods meet through object storage.

The runtime (`runtimeRef`) brings what all our jobs share: service account, settings and secrets
as environment, volumes. Trainer gives torchrun its `PET_…` variables because `spec.trainer` is
set; its worlds are of fixed size, and a lost pod starts the job again from the checkpoint.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hearloop.cluster import Kind, Resource, Resources
from hearloop.config import TrainJobSettings
from hearloop.errors import NotFound, TrainingFailed
from hearloop.ports import ObjectStore
from hearloop.training.remote import RemoteTraining
from hearloop.training.request import TrainingRequest, TrainingSummary

__all__ = ["TrainJob", "TrainJobLauncher"]

log = logging.getLogger(__name__)

JOBS: Final = Kind("trainer.kubeflow.org", "v1alpha1", "trainjobs")

GPU: Final = "nvidia.com/gpu"


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """One training as the Kubernetes object of Kubeflow Trainer v2."""

    name: str
    settings: TrainJobSettings
    folder: str
    """`s3://` folder of the request (`hearloop.training.remote`)."""

    def manifest(self) -> Resource:
        """The object as the API takes it."""
        return {
            "apiVersion": f"{JOBS.group}/{JOBS.version}",
            "kind": "TrainJob",
            "metadata": {
                "name": self.name,
                "namespace": self.settings.namespace,
                "labels": {"app.kubernetes.io/part-of": "hearloop", **self._queue()},
            },
            "spec": {
                "runtimeRef": {"kind": "TrainingRuntime", "name": self.settings.runtime},
                "trainer": {
                    **({"image": self.settings.image} if self.settings.image else {}),
                    "command": ["torchrun", "-m", "hearloop.training"],
                    "args": [self.folder],
                    "numNodes": self.settings.nodes,
                    # One process a node: each fetches the features into a disk of its own.
                    "numProcPerNode": 1,
                    "resourcesPerNode": self._resources(),
                },
            },
        }

    def _queue(self) -> dict[str, str]:
        """Kueue's labels: it holds the job until the queue has room."""
        labels = {
            "kueue.x-k8s.io/queue-name": self.settings.queue,
            "kueue.x-k8s.io/priority-class": self.settings.priority,
        }
        return {label: value for label, value in labels.items() if value}

    def _resources(self) -> dict[str, dict[str, str]]:
        gpus = {GPU: str(self.settings.gpus)} if self.settings.gpus else {}
        return {
            "requests": {"cpu": self.settings.cpu, "memory": self.settings.memory, **gpus},
            "limits": {"memory": self.settings.memory, **gpus},
        }


class TrainJobLauncher:
    """Workers in the pods of a TrainJob."""

    def __init__(
        self,
        settings: TrainJobSettings,
        objects: ObjectStore,
        *,
        bucket: str,
        cache: Path,
        jobs: Resources | None = None,
    ) -> None:
        """`bucket` takes request and answer; `jobs` are those of our cluster unless given."""
        self._settings = settings
        self._objects = objects
        self._bucket = bucket
        self._cache = cache
        self._jobs = jobs or Resources(JOBS, settings.namespace)

    def run(
        self, request: TrainingRequest, *, base_bundle: Path | None, output: Path, work: Path
    ) -> TrainingSummary:
        """Train and leave the bundle in `output`.

        A job that is there already is adopted; one that had failed before is made anew, and goes
        on from its checkpoint. Raises TrainingFailed, ServiceUnavailable when the cluster stays
        away and ConfigurationError when it refuses the job.
        """
        folder = f"s3://{self._bucket}/trainings/{request.digest}"
        remote = RemoteTraining(folder, self._objects, self._cache)
        if remote.answered() is None:
            remote.ask(request, base_bundle)
            name = f"hearloop-{request.digest[:16]}"
            self._create_and_wait(TrainJob(name=name, settings=self._settings, folder=folder))
        summary = remote.answered()
        if summary is None:
            raise TrainingFailed(
                f"The TrainJob of {folder} completed but left no summary; read its pods' logs."
            )
        remote.fetch_bundle(output)
        return summary

    def _create_and_wait(self, job: TrainJob) -> None:
        if not self._jobs.create(job.manifest()):
            log.info("TrainJob %s is there already", job.name)
            if self._failed_before(job.name):
                self._delete(job.name)
                self._jobs.create(job.manifest())
        try:
            for read in self._jobs.changes(job.name):
                failure = _condition(read, "Failed")
                if failure is not None:
                    raise TrainingFailed(
                        f"TrainJob {job.name} failed: {failure}; read its pods' logs and run the "
                        "step again: it goes on from the last checkpoint."
                    )
                if _condition(read, "Complete") is not None:
                    return
        except NotFound as error:
            raise TrainingFailed(
                f"TrainJob {job.name} was deleted while it ran; run the step again: it goes on "
                "from the last checkpoint."
            ) from error

    def _failed_before(self, name: str) -> bool:
        try:
            return _condition(self._jobs.read(name), "Failed") is not None
        except NotFound:
            return True  # it went meanwhile: there is one to create again

    def _delete(self, name: str) -> None:
        """Delete a job and wait until it is gone with its pods, so that its name is free."""
        self._jobs.delete(name)
        try:
            for _ in self._jobs.changes(name):
                log.info("TrainJob %s is being deleted", name)
        except NotFound:
            return


def _condition(job: dict[str, Any], kind: str) -> str | None:
    """The message of a condition that holds, None when it does not."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] == kind and condition["status"] == "True":
            return str(condition.get("message", ""))
    return None
