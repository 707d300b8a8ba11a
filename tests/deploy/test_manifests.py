"""The manifests against the schemas of their custom resources, and against the code."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml
from pydantic import SecretStr

from hearloop.config import Settings
from hearloop.recipe import Recipe
from hearloop.training.trainjob import TrainJob
from pipelines import recipes

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
SCHEMAS = ROOT.parent / "shared" / "schemas"
BUILDS = ("base", "overlays/local", "overlays/staging")
OURS = ("serving.kserve.io", "trainer.kubeflow.org")
"""API groups of the custom resources that we write."""

Manifest = dict[str, Any]


@cache
def built(name: str) -> tuple[Manifest, ...]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: it builds the overlays")
    done = subprocess.run(
        ["kubectl", "kustomize", str(K8S / name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def one(name: str, kind: str, containing: str = "") -> Manifest:
    (found,) = (
        manifest
        for manifest in built(name)
        if manifest["kind"] == kind and containing in manifest["metadata"]["name"]
    )
    return found


def pods(name: str) -> Iterator[tuple[str, Manifest]]:
    """Every pod specification of a build, with the name of what it belongs to."""
    yield "monitor", one(name, "Deployment")["spec"]["template"]["spec"]
    yield "training", training_pod(name)
    runtime = one(name, "ServingRuntime")["spec"]
    predictor = one(name, "InferenceService")["spec"]["predictor"]
    model = {key: predictor["model"][key] for key in ("resources",) if key in predictor["model"]}
    yield (
        "serving",
        predictor
        | runtime
        | {"containers": [container | model for container in runtime["containers"]]},
    )


def training_pod(name: str) -> Manifest:
    (job,) = one(name, "TrainingRuntime")["spec"]["template"]["spec"]["replicatedJobs"]
    assert job["name"] == "node", "Kubeflow Trainer looks for the job and the container `node`"
    pod: Manifest = job["template"]["spec"]["template"]["spec"]
    assert [container["name"] for container in pod["containers"]] == ["node"]
    return pod


def schema_of(manifest: Manifest) -> Path | None:
    group, _, version = manifest["apiVersion"].rpartition("/")
    return SCHEMAS / f"{manifest['kind'].lower()}_{group}_{version}.json" if group in OURS else None


def validate(manifest: Manifest, path: Path) -> None:
    """Not `jsonschema.validate`: checking the schema itself takes 5 s for one with pods in it."""
    jsonschema.Draft7Validator(json.loads(path.read_text())).validate(manifest)


def options(command: list[str]) -> dict[str, str]:
    return dict(option.lstrip("-").split("=", 1) for option in command)


@pytest.mark.parametrize("path", sorted(K8S.rglob("*.yaml")), ids=lambda path: path.name)
def test_every_file_is_yaml(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        assert isinstance(document, dict)


@pytest.mark.parametrize("name", BUILDS)
def test_custom_resources_are_what_their_operators_take(name: str) -> None:
    if not SCHEMAS.is_dir():
        pytest.skip(f"no schemas of custom resources in {SCHEMAS.name}/ beside the checkout")
    checked = []
    for manifest in built(name):
        if path := schema_of(manifest):
            validate(manifest, path)
            checked.append(manifest["kind"])
    assert sorted(checked) == ["InferenceService", "ServingRuntime", "TrainingRuntime"]


@pytest.mark.parametrize("name", BUILDS)
def test_pods_ask_for_no_more_than_they_need(name: str) -> None:
    for owner, pod in pods(name):
        assert pod["automountServiceAccountToken"] is False, owner
        context = pod["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"] > 0) == (True, True), owner
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, owner
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), owner
        for volume in pod["volumes"]:
            assert volume.keys() & {"emptyDir", "configMap"}, f"{owner}: {volume}"
            assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}), f"{owner}: {volume}"
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, owner
            assert own["readOnlyRootFilesystem"] is True, owner
            assert own["capabilities"] == {"drop": ["ALL"]}, owner
            for kind in ("requests", "limits"):
                assert container["resources"][kind].keys() == {"cpu", "memory"}, owner
            if owner != "training":  # a training ends by itself
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


@pytest.mark.parametrize("name", BUILDS)
def test_images_are_pinned_and_settings_reach_every_container(name: str) -> None:
    settings = one(name, "ConfigMap", "hearloop-settings")["metadata"]["name"]
    for owner, pod in pods(name):
        for container in pod["containers"]:
            assert re.fullmatch(r"hearloop/\w+:[\w.]+", container["image"]), owner
            assert container["envFrom"] == [
                {"configMapRef": {"name": settings}},
                {"secretRef": {"name": "hearloop-secrets"}},
            ], owner


@pytest.mark.parametrize("name", BUILDS)
def test_settings_are_those_of_the_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = one(name, "ConfigMap", "hearloop-settings")["data"]
    assert values.keys() <= Settings().to_environment().keys()
    assert not values.keys() & secret_variables(), "secrets belong into the Secret"
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    given = Settings(_env_file=None).to_environment()  # type: ignore[call-arg]
    assert {variable: given[variable] for variable in values} == values


def secret_variables() -> set[str]:
    marked = Settings(
        s3={"secret_access_key": SecretStr("marked")},  # type: ignore[arg-type]
        kafka={"sasl_password": SecretStr("marked")},  # type: ignore[arg-type]
    )
    found = {name for name, value in marked.to_environment().items() if value == "marked"}
    return {*found, "HEARLOOP_DATABASE_URL", "HEARLOOP_S3__ACCESS_KEY_ID"}


def test_local_secrets_are_those_of_the_code() -> None:
    secret = one("overlays/local", "Secret")["data"]
    assert secret.keys() <= secret_variables()


@pytest.mark.parametrize(("owner", "package"), [("serving", "serving"), ("monitor", "monitoring")])
def test_commands_exist(owner: str, package: str) -> None:
    (container,) = dict(pods("base"))[owner]["containers"]
    assert container["command"] == ["python", "-m", package]
    source = (ROOT / package / "__main__.py").read_text()
    for option in options(container["args"]):
        assert f'"--{option}"' in source, option


def test_ports_agree() -> None:
    (serving,) = dict(pods("base"))["serving"]["containers"]
    (monitor,) = dict(pods("base"))["monitor"]["containers"]
    values = one("base", "ConfigMap", "hearloop-settings")["data"]
    ports = options(serving["args"])
    assert [port["containerPort"] for port in serving["ports"]] == [int(ports["http_port"])]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert serving[probe]["httpGet"]["port"] == int(ports["http_port"])
    service = one("base", "Service")
    url = urlsplit(values["HEARLOOP_MONITOR_URL"])
    assert url.hostname == service["metadata"]["name"]
    assert url.port == service["spec"]["ports"][0]["port"]
    assert monitor["ports"] == [{"containerPort": url.port, "name": "http"}]
    assert options(monitor["args"])["port"] == str(url.port)


def test_probes_ask_for_routes_that_exist() -> None:
    (monitor,) = dict(pods("base"))["monitor"]["containers"]
    source = (ROOT / "monitoring" / "service.py").read_text()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert f'"{monitor[probe]["httpGet"]["path"]}"' in source


def test_monitor_starts_the_retrain_of_the_recipes() -> None:
    recipe = one("base", "ConfigMap", "hearloop-retrain")["data"]["recipe.json"]
    assert Recipe.from_json(recipe) == recipes.retrain(), (
        "python -m pipelines recipe retrain > k8s/base/retrain.json"
    )


@pytest.mark.parametrize("name", BUILDS)
def test_train_jobs_find_their_runtime(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in one(name, "ConfigMap", "hearloop-settings")["data"].items():
        monkeypatch.setenv(variable, value)
    settings = Settings(_env_file=None).trainjob  # type: ignore[call-arg]
    job = TrainJob(name="hearloop-1", settings=settings, folder="s3://b/trainings/1").manifest()
    runtime = one(name, "TrainingRuntime")
    assert job["spec"]["runtimeRef"] == {
        "kind": "TrainingRuntime",
        "name": runtime["metadata"]["name"],
    }
    assert job["metadata"]["namespace"] == runtime["metadata"]["namespace"]
    (node,) = training_pod(name)["containers"]
    assert job["spec"]["trainer"]["command"] == node["command"]
    assert job["spec"]["trainer"]["image"] == node["image"]
    if SCHEMAS.is_dir():
        validate(job, SCHEMAS / "trainjob_trainer.kubeflow.org_v1alpha1.json")
