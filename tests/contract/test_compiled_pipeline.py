"""The compiled pipelines are what was reviewed, carry what a cluster needs, and compile lightly."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import GPU_IMAGE, IMAGE
from hearloop.config import Settings
from hearloop.launchers import KfpLauncher
from pipelines.placement import PLACEMENTS, SECRETS, SETTINGS
from tests.integration.kfp_api import kfp_api

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
COMPILED = {
    "continuous_learning.yaml": [],
    "scheduled_learning.yaml": ["--scheduled", "--gpus", "1"],
}
"""Reviewed copies, and the options that make them."""

HEAVY = ("torch", "lhotse", "mlflow", "feast", "great_expectations", "numpy", "boto3")

Document = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes, from a process that says which libraries it loaded."""
    folder = tmp_path_factory.mktemp("compiled")
    code = (
        "import json, sys\n"
        "from contextlib import suppress\n"
        "from pipelines.__main__ import main\n"
        f"for name, options in {COMPILED}.items():\n"
        f"    sys.argv = ['pipelines', 'compile', '--output', {str(folder)!r} + '/' + name]\n"
        "    sys.argv += options\n"
        "    with suppress(SystemExit):\n"
        "        main()\n"
        f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout) == []
    return folder


@pytest.fixture(params=COMPILED)
def compiled(request: pytest.FixtureRequest, folder: Path) -> tuple[Document, Document]:
    """The pipeline and what it asks of Kubernetes, by executor."""
    pipeline, platforms = documents(folder / request.param)
    return pipeline, platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def documents(path: Path) -> list[Document]:
    """The documents of a compiled pipeline, without the version of the SDK."""
    found = list(yaml.safe_load_all(path.read_text()))
    for one in found:
        one.pop("sdkVersion", None)
    return found


def reviewed(path: Path) -> list[Document]:
    """What people review: not the list of settings, which follows the code and is tested below."""
    pipeline, platforms = documents(path)
    for executor in executors([pipeline, platforms]).values():
        executor["configMapAsEnv"][0].pop("keyToEnv")
    return [pipeline, platforms]


def tasks(pipeline: Document) -> Iterator[tuple[str, Document]]:
    """Every step with its task, those inside of branches too."""
    for graph in (pipeline["root"], *pipeline["components"].values()):
        for name, task in graph.get("dag", {}).get("tasks", {}).items():
            if not name.startswith("condition"):
                yield name, task


def on_gpus(executors: Document) -> set[str]:
    return {name for name, one in executors.items() if "tolerations" in one}


@pytest.mark.parametrize("name", COMPILED)
def test_the_compiled_pipeline_is_the_reviewed_one(folder: Path, name: str) -> None:
    golden = GOLDEN / name
    options = " ".join([*COMPILED[name], "--output", str(golden.relative_to(ROOT))])

    assert reviewed(folder / name) == reviewed(golden), (
        "The compiled pipeline differs from the reviewed copy. Look at the difference, and when "
        f"it is meant: python -m pipelines compile {options}"
    )


def test_no_step_installs_anything(compiled: tuple[Document, Document]) -> None:
    for name, one in compiled[0]["deploymentSpec"]["executors"].items():
        container = one["container"]
        assert container["image"] == (GPU_IMAGE if name in on_gpus(compiled[1]) else IMAGE)
        assert "pip install" not in " ".join(container["command"])


def test_every_step_asks_for_its_share_of_a_node(compiled: tuple[Document, Document]) -> None:
    pipeline, executors = compiled

    assert len(pipeline["deploymentSpec"]["executors"]) == len(PLACEMENTS)
    for name, executor in pipeline["deploymentSpec"]["executors"].items():
        placement = PLACEMENTS[name.removeprefix("exec-")]
        resources = executor["container"]["resources"]
        for kind in ("Limit", "Request"):
            assert resources[f"resourceCpu{kind}"] == placement.cpu
            assert resources[f"resourceMemory{kind}"] == placement.memory
        assert executors[name]["activeDeadlineSeconds"] == str(int(placement.hours * 3600))
        (cache,) = executors[name]["emptyDirMounts"]
        assert cache["sizeLimit"] == placement.disk


def test_every_step_is_tried_again_with_growing_waits(
    compiled: tuple[Document, Document],
) -> None:
    for name, task in tasks(compiled[0]):
        assert task["retryPolicy"] == {
            "maxRetryCount": 3,
            "backoffDuration": "30s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": "600s",
        }, name


def test_only_a_rollout_is_done_anew_with_the_same_inputs(
    compiled: tuple[Document, Document],
) -> None:
    cached = {
        name: task["cachingOptions"].get("enableCache", False) for name, task in tasks(compiled[0])
    }

    assert {name for name, enabled in cached.items() if not enabled} == {"roll-out"}
    assert set(cached) == set(PLACEMENTS)


def test_every_setting_of_the_code_reaches_every_step(compiled: tuple[Document, Document]) -> None:
    for name, executor in compiled[1].items():
        (plain,), (secret,) = executor["configMapAsEnv"], executor["secretAsEnv"]
        given = [one["envVar"] for one in plain["keyToEnv"] + secret["keyToEnv"]]
        assert sorted(given) == sorted(Settings().to_environment()), name
        assert (plain["configMapName"], secret["secretName"]) == (SETTINGS, SECRETS)
        assert plain["optional"] is secret["optional"] is True
        for one in plain["keyToEnv"]:
            assert one["configMapKey"] == one["envVar"]


def test_secrets_come_from_the_secret_alone(compiled: tuple[Document, Document]) -> None:
    marked = {
        "s3": {"secret_access_key": "marked"},
        "kafka": {"sasl_password": "marked"},
        "serving_token": "marked",
    }
    values = Settings(**marked).to_environment()  # type: ignore[arg-type]
    secret = {name for name, value in values.items() if value == "marked"}
    for executor in compiled[1].values():
        plain = {one["envVar"] for one in executor["configMapAsEnv"][0]["keyToEnv"]}
        assert not plain & (secret | {"HEARLOOP_DATABASE_URL"})


def test_pods_are_what_the_namespace_admits_and_its_policies_name(
    compiled: tuple[Document, Document],
) -> None:
    for name, executor in compiled[1].items():
        context = executor["securityContext"]
        assert context == {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}, name
        assert executor["podMetadata"]["labels"] == {
            "app.kubernetes.io/part-of": "hearloop",
            "app.kubernetes.io/name": "hearloop-pipeline",
        }
        assert executor["podMetadata"]["annotations"] == {
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"
        }
        assert executor["nodeSelector"]["labels"]["kubernetes.io/arch"] == "amd64"


def test_only_training_with_gpus_of_its_own_goes_to_their_nodes(folder: Path) -> None:
    without, with_gpu = (documents(folder / name) for name in COMPILED)
    assert on_gpus(executors(without)) == set()

    assert on_gpus(executors(with_gpu)) == {"exec-train"}
    train = executors(with_gpu)["exec-train"]
    assert train["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert train["nodeSelector"]["labels"]["hearloop/nodes"] == "gpu"
    container = with_gpu[0]["deploymentSpec"]["executors"]["exec-train"]["container"]
    accelerator = container["resources"]["accelerator"]
    assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/gpu", "1")


def executors(compiled: list[Document]) -> Document:
    found: Document = compiled[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return found


def test_a_scheduled_run_is_named_by_the_server(folder: Path) -> None:
    pipeline, _ = documents(folder / "scheduled_learning.yaml")

    assert set(pipeline["root"]["inputDefinitions"]["parameters"]) == {"recipe"}
    ingest = pipeline["root"]["dag"]["tasks"]["ingest"]["inputs"]["parameters"]["run_id"]
    assert ingest == {"runtimeValue": {"constant": "{{$.pipeline_job_resource_name}}"}}


@pytest.mark.filterwarnings("ignore::FutureWarning:kfp", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # kfp leaves its connections open
@pytest.mark.parametrize("name", ["run.json", "schedule.json"])
def test_a_server_is_asked_what_was_reviewed(folder: Path, name: str) -> None:
    """KFP's IR has no place for service account and schedule: they come with the request."""
    with kfp_api() as server:
        account = Settings().kfp_service_account
        if name == "run.json":
            package = folder / "continuous_learning.yaml"
            KfpLauncher(server.url, package, service_account=account).launch("retrain-1", "{}")
            (asked,) = server.runs
        else:
            package = folder / "scheduled_learning.yaml"
            launcher = KfpLauncher(server.url, package, service_account=account)
            launcher.schedule("weekly", "{}", "0 0 3 * * 1")
            (asked,) = server.schedules
    sent = asked.pop("pipeline_spec")
    assert sent.keys() == {"pipeline_spec", "platform_spec"}, "what Kubernetes needs goes too"
    assert asked == json.loads((GOLDEN / name).read_text())


def test_every_decision_of_the_judge_has_a_branch(compiled: tuple[Document, Document]) -> None:
    """KFP's local runner skips a lone If in silence."""
    pipeline, _ = compiled
    graphs = [pipeline["root"], *pipeline["components"].values()]
    conditions = [
        task["triggerPolicy"]["condition"]
        for graph in graphs
        for task in graph.get("dag", {}).get("tasks", {}).values()
        if "triggerPolicy" in task
    ]

    decided = "inputs.parameter_values['pipelinechannel--judge-Output'] == 'roll_out'"
    assert sorted(conditions) == sorted([decided, f"!({decided})"])
