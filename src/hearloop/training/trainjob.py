"""Training in a cluster: a Kubeflow Trainer v2 TrainJob whose pods meet through object storage.

The runtime (`runtimeRef`) brings what all our jobs share: service account, settings and secrets
as environment, volumes. Trainer gives torchrun its `PET_…` variables because `spec.trainer` is
set; its worlds are of fixed size, and a lost pod starts the job again from the checkpoint.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hearloop.config import TrainJobSettings
from hearloop.errors import ServiceUnavailable, TrainingFailed
from hearloop.ports import ObjectStore
from hearloop.training.remote import RemoteTraining
from hearloop.training.request import TrainingRequest, TrainingSummary

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

__all__ = ["TrainJob", "TrainJobLauncher"]

log = logging.getLogger(__name__)

_GROUP: Final = "trainer.kubeflow.org"
_VERSION: Final = "v1alpha1"
_PLURAL: Final = "trainjobs"
_WATCH_SECONDS: Final = 60
"""Length of one watch; then the job is read again, in case the watch missed something."""
_CONFLICT: Final = 409
"""HTTP status of the API for a name that is taken."""


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """One training as the Kubernetes object of Kubeflow Trainer v2."""

    name: str
    settings: TrainJobSettings
    folder: str
    """`s3://` folder of the request (`hearloop.training.remote`)."""

    def manifest(self) -> dict[str, Any]:
        """The object as the API takes it."""
        return {
            "apiVersion": f"{_GROUP}/{_VERSION}",
            "kind": "TrainJob",
            "metadata": {
                "name": self.name,
                "namespace": self.settings.namespace,
                "labels": {"app.kubernetes.io/part-of": "hearloop"},
            },
            "spec": {
                "runtimeRef": {"kind": "TrainingRuntime", "name": self.settings.runtime},
                "trainer": {
                    "image": self.settings.image,
                    "command": ["torchrun", "-m", "hearloop.training"],
                    "args": [self.folder],
                    "numNodes": self.settings.nodes,
                    # One process a node: each fetches the features into a disk of its own.
                    "numProcPerNode": 1,
                    "resourcesPerNode": {
                        "requests": {"cpu": self.settings.cpu, "memory": self.settings.memory},
                        "limits": {"memory": self.settings.memory},
                    },
                },
            },
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
        api: "ApiClient | None" = None,
    ) -> None:
        """`bucket` takes request and answer; `api` is the cluster that we run in unless given."""
        self._settings = settings
        self._objects = objects
        self._bucket = bucket
        self._cache = cache
        self._api = api

    def run(
        self, request: TrainingRequest, *, base_bundle: Path | None, output: Path, work: Path
    ) -> TrainingSummary:
        """Train and leave the bundle in `output`.

        Raises TrainingFailed, and ServiceUnavailable when the cluster does not answer.
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
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            jobs = _Jobs(self._api or _in_cluster(), job)
            jobs.create()
            jobs.wait()
        except (ApiException, HTTPError) as error:
            raise ServiceUnavailable(
                f"The Kubernetes API did not take or show the TrainJob {job.name}: {error}; check "
                "that Kubeflow Trainer is installed and that we may create trainjobs."
            ) from error


def _in_cluster() -> "ApiClient":
    from kubernetes import client, config

    config.load_config()
    return client.ApiClient()


class _Jobs:
    """One TrainJob in the API."""

    def __init__(self, api: "ApiClient", job: TrainJob) -> None:
        from kubernetes.client import CustomObjectsApi

        self._objects = CustomObjectsApi(api)
        self._job = job
        self._place = {
            "group": _GROUP,
            "version": _VERSION,
            "namespace": job.settings.namespace,
            "plural": _PLURAL,
        }

    def create(self) -> None:
        """Create the job; one that another call created is adopted."""
        from kubernetes.client import ApiException

        try:
            self._objects.create_namespaced_custom_object(body=self._job.manifest(), **self._place)
        except ApiException as error:
            if error.status != _CONFLICT:
                raise
            log.info("TrainJob %s is there already; waiting for it", self._job.name)

    def wait(self) -> None:
        """Return when the job is complete. Raises TrainingFailed when it failed."""
        while True:
            read = self._objects.get_namespaced_custom_object(name=self._job.name, **self._place)
            if self._over(read):
                return
            if self._watch(read["metadata"]["resourceVersion"]):
                return

    def _watch(self, version: str) -> bool:
        from kubernetes.watch import Watch

        events = Watch().stream(
            self._objects.list_namespaced_custom_object,
            field_selector=f"metadata.name={self._job.name}",
            resource_version=version,
            timeout_seconds=_WATCH_SECONDS,
            **self._place,
        )
        return any(self._over(event["object"]) for event in events)

    def _over(self, read: dict[str, Any]) -> bool:
        for condition in read.get("status", {}).get("conditions", []):
            if condition["status"] != "True":
                continue
            if condition["type"] == "Failed":
                raise TrainingFailed(
                    f"TrainJob {self._job.name} failed: {condition['message']}; read its pods' "
                    "logs, delete the TrainJob and run again: it goes on from the checkpoint."
                )
            if condition["type"] == "Complete":
                return True
        return False
