"""Finding one's way in the objects of an overlay."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]

WORKLOADS = ("Deployment", "StatefulSet", "Job")


@dataclass(frozen=True)
class Pod:
    """A pod specification, whoever makes pods of it."""

    kind: str
    name: str
    namespace: str
    labels: dict[str, str]
    spec: Manifest

    @property
    def containers(self) -> list[Manifest]:
        """Init containers too."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Overlay:
    """The objects of one overlay."""

    name: str
    objects: tuple[Manifest, ...]

    def all(self, kind: str, namespace: str | None = None) -> list[Manifest]:
        return [
            one
            for one in self.objects
            if one["kind"] == kind and namespace in (None, one["metadata"].get("namespace"))
        ]

    def one(self, kind: str, beginning: str = "", namespace: str | None = None) -> Manifest:
        """The only object of a kind whose name begins so."""
        (found,) = (
            one
            for one in self.all(kind, namespace)
            if one["metadata"]["name"].startswith(beginning)
        )
        return found

    def settings(self, namespace: str = "hearloop") -> dict[str, str]:
        """The platform's settings by their environment names."""
        data: dict[str, str] = self.one("ConfigMap", "hearloop-settings", namespace)["data"]
        return data

    def endpoints(self) -> dict[str, str]:
        """Names and addresses that only a cloud environment knows."""
        data: dict[str, str] = self.one("ConfigMap", "hearloop-endpoints")["data"]
        return data

    def pods(self) -> Iterator[Pod]:
        """Every pod: of workloads, of the InferenceService with its runtime, of TrainJobs."""
        for kind in WORKLOADS:
            for one in self.all(kind):
                template, metadata = one["spec"]["template"], one["metadata"]
                labels = template["metadata"]["labels"]
                yield Pod(kind, metadata["name"], metadata["namespace"], labels, template["spec"])
        yield self.serving()
        yield self.training()

    def serving(self) -> Pod:
        """What KServe makes of the runtime and the service: the latter's fields come later."""
        runtime = self.one("ServingRuntime")["spec"]
        predictor = self.one("InferenceService")["spec"]["predictor"]
        (container,) = runtime["containers"]
        model = {
            key: predictor["model"][key] for key in ("resources",) if key in predictor["model"]
        }
        spec = {**predictor, "containers": [container | model], "volumes": runtime["volumes"]}
        labels = {
            **predictor["labels"],
            "serving.kserve.io/inferenceservice": "hearloop",
            "component": "predictor",
        }
        return Pod("InferenceService", "hearloop", "hearloop", labels, spec)

    def training(self) -> Pod:
        """What Kubeflow Trainer makes of the runtime."""
        runtime = self.one("TrainingRuntime")
        (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
        assert job["name"] == "node", "Kubeflow Trainer looks for the job and the container `node`"
        template = job["template"]["spec"]["template"]
        metadata = runtime["metadata"]
        return Pod(
            "TrainingRuntime",
            metadata["name"],
            metadata["namespace"],
            template["metadata"]["labels"],
            template["spec"],
        )


def options(arguments: list[str]) -> dict[str, str]:
    """`--name=value` arguments by name; those without a value have an empty one."""
    return dict(
        argument.lstrip("-").split("=", 1) if "=" in argument else (argument.lstrip("-"), "")
        for argument in arguments
    )


def fits(labels: dict[str, str], selector: Manifest) -> bool:
    """Whether a label selector chooses these labels."""
    expressions = selector.get("matchExpressions", [])
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        each["operator"] == "In" and labels.get(each["key"]) in each["values"]
        for each in expressions
    )
