"""The names that bind manifests, Terraform, settings and code: one spelling each."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import yaml

from hearloop.config import Buckets, KafkaSettings
from hearloop.storage.databases import BESIDE_OURS
from k8s import check
from pipelines import placement
from serving.caller import CALL
from tests.deploy import hcl
from tests.deploy.objects import Manifest, Overlay, options


@dataclass(frozen=True)
class Place:
    """Where an overlay's region stands in terraform/environments."""

    environment: str
    module: str
    """Name of its call of terraform/platform."""
    region: str
    """Variable with its region."""


PLACES = {
    "staging": Place("staging", "platform", "region"),
    "production": Place("production", "primary", "primary_region"),
    "production-standby": Place("production", "standby", "standby_region"),
}


def platform(overlay: Overlay) -> dict[str, Any]:
    """What an environment passes to terraform/platform."""
    place = PLACES[overlay.name]
    return hcl.module(f"environments/{place.environment}/main.tf", place.module)


def variable(overlay: Overlay, name: str) -> str:
    """What a variable of an overlay's environment is unless somebody says otherwise."""
    file = f"environments/{PLACES[overlay.name].environment}/variables.tf"
    return str(hcl.variable(file, name)["default"])


def global_name(overlay: Overlay) -> str:
    """What the names of a region's buckets and roles begin with."""
    name = str(platform(overlay)["global_name"])
    given = variable(overlay, "global_name")
    return name.replace("${var.global_name}", given).replace("var.global_name", given)


# Regions


def test_regions_are_those_of_the_environment(cloud: Overlay) -> None:
    region = variable(cloud, PLACES[cloud.name].region)
    assert cloud.endpoints()["REGION"] == region
    assert cloud.settings()["HEARLOOP_S3__REGION"] == region
    assert cloud.one("ClusterSecretStore")["spec"]["provider"]["aws"]["region"] == region
    route = cloud.one("HTTPRoute", "hearloop-health")["spec"]
    assert [host.split(".")[0] for host in route["hostnames"]] == [region]
    text = yaml.safe_dump_all(cloud.objects)
    named = set(re.findall(r"\b(?:eu|us|ap|ca|sa|af|me|il)-[a-z]+-[0-9]\b", text))
    assert named == {region}


def test_images_come_from_the_registry_of_the_region(cloud: Overlay) -> None:
    registry = f".dkr.ecr.{cloud.endpoints()['REGION']}.amazonaws.com/"
    images = {
        container["image"]
        for pod in cloud.pods()
        for container in pod.containers
        if "hearloop/" in container["image"]
    }
    values = cloud.settings()
    images |= {values["HEARLOOP_KFP_IMAGE"], values["HEARLOOP_KFP_GPU_IMAGE"]}
    assert len(images) >= 4
    assert {image for image in images if registry not in image} == set()


def test_the_standby_is_the_primary_under_other_names(
    production: Overlay, standby: Overlay
) -> None:
    here, there = production.endpoints()["REGION"], standby.endpoints()["REGION"]
    brokers = "HEARLOOP_KAFKA__BOOTSTRAP_SERVERS"

    def named_alike(overlay: Overlay) -> list[Manifest]:
        text = yaml.safe_dump_all(overlay.objects).replace(overlay.settings()[brokers], "")
        text = text.replace("hearloop-production-standby-", "hearloop-production-")
        text = re.sub(r"\b(hearloop-\w+)-[a-z0-9]{10}\b", r"\1", text)  # the hash of what differs
        return list(yaml.safe_load_all(text.replace(there, here)))

    pairs = zip(named_alike(production), named_alike(standby), strict=True)
    differ = [(one, other) for one, other in pairs if one != other]
    monitor, rules = ((one, other) for one, other in differ)
    assert [pair[0]["metadata"]["name"] for pair in (monitor, rules)] == [
        "hearloop-monitor",
        "hearloop-learning",
    ], "nothing else waits for the promotion"
    assert (monitor[0]["spec"].pop("replicas"), monitor[1]["spec"].pop("replicas")) == (1, 0)
    assert monitor[0] == monitor[1]
    alert = rules[0]["spec"]["groups"][0]["rules"].pop(0)
    assert alert["alert"] == "HearloopMonitorNotDeciding"
    assert rules[0] == rules[1]


# Buckets, topics, databases, secrets


def test_buckets_are_those_that_terraform_makes(cloud: Overlay) -> None:
    listed = hcl.local("modules/storage/main.tf", "holds")
    assert set(re.findall(r'"(\w+)"', str(listed))) == set(Buckets.model_fields)
    values, name = cloud.settings(), global_name(cloud)
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
    assert cloud.endpoints()["NAME"] == name
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
            beginning, _, workload = role.partition("/")[2].rpartition("-")
            assert beginning == global_name(cloud)
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
    domain = cloud.endpoints()["ANY_HOST"].removeprefix("*.")
    for host in ("API_HOST", "CORRECTIONS_HOST", "PARTNERS_HOST"):
        first = cloud.endpoints()[host].removesuffix(f".{domain}")
        assert f'"{first}.${{var.domain}}"' in records
    assert cloud.endpoints()["HEALTH_HOST"] == f"{cloud.endpoints()['REGION']}.{domain}"
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
