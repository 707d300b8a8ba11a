"""Every overlay against the schemas, and what each pod of it must be."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from hearloop.drift.policy import MonitorPolicy
from hearloop.recipe import Recipe
from hearloop.rollout.inference_service import CANARY_LABELS
from k8s import check, rules
from pipelines import recipes
from serving.boundary import MOST_LARGE
from serving.calls.__main__ import LOG_SECONDS
from serving.calls.worker import FLUSH_SECONDS
from serving.server import DRAIN_SECONDS, GRACE_SECONDS, LARGEST_BODY, LARGEST_FILE
from tests.deploy.objects import Overlay, fits, options

FILES = [
    path for path in sorted(check.K8S.rglob("*.yaml")) if "platforms/values" not in path.as_posix()
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(check.K8S).as_posix())
def test_every_file_is_yaml(path: Path) -> None:
    assert list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def test_core_kinds_are_what_kubernetes_takes(overlay: Overlay) -> None:
    core = [one for one in overlay.objects if not check.is_custom(one)]
    assert {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Role"} <= {
        one["kind"] for one in core
    }
    assert [problem for one in core for problem in check.problems(one, None)] == []


def test_custom_resources_are_what_their_operators_take(overlay: Overlay, schemas: Path) -> None:
    custom = [one for one in overlay.objects if check.is_custom(one)]
    assert {"InferenceService", "ServingRuntime", "TrainingRuntime", "PrometheusRule"} <= {
        one["kind"] for one in custom
    }
    assert [problem for one in custom for problem in check.problems(one, schemas)] == []


@pytest.mark.parametrize("kind", ["Deployment", "InferenceService", "ClusterQueue"])
def test_a_field_that_nobody_knows_is_found(staging: Overlay, schemas: Path, kind: str) -> None:
    wrong = copy.deepcopy(staging.one(kind, "hearloop" if kind != "Deployment" else "mlflow"))
    assert list(check.problems(wrong, schemas)) == []
    wrong["spec"]["replicsa"] = 3
    (problem,) = check.problems(wrong, schemas)
    assert "replicsa" in problem


def test_no_object_is_there_twice(overlay: Overlay) -> None:
    names = [
        (one["apiVersion"], one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
        for one in overlay.objects
    ]
    assert len(set(names)) == len(names)


def test_pods_ask_for_no_more_than_they_need(overlay: Overlay) -> None:
    for pod in overlay.pods():
        context = pod.spec["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"] > 0) == (True, True), pod
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, pod
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys(), pod
        assert pod.spec["enableServiceLinks"] is False, pod
        for volume in pod.spec["volumes"]:
            assert volume.keys() & {"emptyDir", "configMap"}, f"{pod}: {volume}"
            assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}), f"{pod}: {volume}"
        for container in pod.containers:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, pod
            assert own["readOnlyRootFilesystem"] is True, pod
            assert own["capabilities"] == {"drop": ["ALL"]}, pod
            for kind in ("requests", "limits"):
                assert container["resources"][kind].keys() >= {"cpu", "memory"}, pod


def test_only_who_asks_the_kubernetes_api_has_a_token(overlay: Overlay) -> None:
    tokens = {pod.name for pod in overlay.pods() if pod.spec["automountServiceAccountToken"]}
    assert tokens <= {"strimzi-topic-operator"}
    for account in overlay.all("ServiceAccount", "hearloop"):
        assert account["automountServiceAccountToken"] is False


def test_what_serves_is_probed(overlay: Overlay) -> None:
    for pod in overlay.pods():
        if pod.kind in ("Job", "TrainingRuntime"):  # they end by themselves
            continue
        for container in pod.spec["containers"]:
            probes = {"startupProbe", "readinessProbe", "livenessProbe"}
            assert probes <= container.keys(), f"{pod}: {container['name']}"
            ports = {port.get("name") for port in container["ports"]} | {
                port["containerPort"] for port in container["ports"]
            }
            for probe in probes:
                asked = container[probe].get("httpGet") or container[probe].get("tcpSocket")
                assert asked is None or asked["port"] in ports, f"{pod}: {probe}"


def test_drains_leave_enough_and_never_wait_for_ever(overlay: Overlay) -> None:
    budgets = [one["spec"] for one in overlay.all("PodDisruptionBudget")]
    for pod in overlay.pods():
        if pod.kind in ("Job", "TrainingRuntime"):
            continue
        (budget,) = (each for each in budgets if fits(pod.labels, each["selector"]))
        assert budget.get("maxUnavailable") == 1, pod


def test_replicas_spread_over_zones(overlay: Overlay) -> None:
    several = {
        one["metadata"]["name"]
        for one in overlay.all("Deployment")
        if one["spec"].get("replicas", 2) > 1  # where an autoscaler says how many
    }
    for pod in overlay.pods():
        if pod.name in several or pod.kind == "InferenceService":
            zones = [
                each
                for each in pod.spec["topologySpreadConstraints"]
                if each["topologyKey"] == "topology.kubernetes.io/zone"
            ]
            assert zones, pod
            assert all(fits(pod.labels, each["labelSelector"]) for each in zones), pod


def test_production_survives_a_zone(production: Overlay) -> None:
    replicas = {
        one["metadata"]["name"]: one["spec"].get("replicas", 0)
        for one in production.all("Deployment")
    }
    assert all(replicas[name] >= 3 for name in ("hearloop-feedback", "mlflow", "feast"))
    predictor = production.one("InferenceService")["spec"]["predictor"]
    assert predictor["minReplicas"] >= 3
    assert predictor["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "DoNotSchedule"
    assert production.one("ScaledObject", "hearloop-calls")["spec"]["minReplicaCount"] >= 3


def test_streams_are_drained_before_a_pod_ends(overlay: Overlay) -> None:
    pod = overlay.serving()
    (container,) = pod.spec["containers"]
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    values = overlay.one("ConfigMap", "hearloop-server")["data"]
    streams = float(values["HEARLOOP_SERVER_DRAIN_SECONDS"])
    assert streams >= pod.spec["timeout"], "a stream may be as long as that"
    drain = before + streams + GRACE_SECONDS + DRAIN_SECONDS
    assert pod.spec["terminationGracePeriodSeconds"] >= drain
    assert pod.spec["deploymentStrategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_recordings_that_come_in_have_room(overlay: Overlay) -> None:
    (room,) = (one for one in overlay.serving().spec["volumes"] if one["name"] == "temporary")
    gigabytes = int(room["emptyDir"]["sizeLimit"].removesuffix("Gi"))
    assert gigabytes * 2**30 >= MOST_LARGE * LARGEST_FILE + 16 * LARGEST_BODY


def test_members_that_hear_calls_have_time_to_hand_them_over(overlay: Overlay) -> None:
    pod = next(pod for pod in overlay.pods() if pod.name == "hearloop-calls")
    needed = FLUSH_SECONDS + LOG_SECONDS
    assert pod.spec["terminationGracePeriodSeconds"] >= 2 * needed


def test_the_restricted_level_is_enforced(overlay: Overlay) -> None:
    labels = overlay.one("Namespace", "hearloop")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert labels["pod-security.kubernetes.io/enforce-version"] == f"v{check.KUBERNETES}"


def test_priorities_put_callers_first(overlay: Overlay) -> None:
    values = {one["metadata"]["name"]: one["value"] for one in overlay.all("PriorityClass")}
    assert values["hearloop-serving"] > values["hearloop-platform"] > values["hearloop-training"]
    for pod in overlay.pods():
        if pod.kind != "Job":
            assert pod.spec["priorityClassName"] in values, pod


@pytest.mark.parametrize("name", ["staging", "production"])
def test_live_streams_decide_how_many_replicas_there_are(
    name: str, request: pytest.FixtureRequest
) -> None:
    service = request.getfixturevalue(name).one("InferenceService")
    predictor = service["spec"]["predictor"]
    assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "keda"
    (metric,) = predictor["autoScaling"]["metrics"]
    assert metric["external"]["metric"]["query"].startswith("sum(hearloop_live_streams{")
    assert predictor["maxReplicas"] > predictor["minReplicas"] >= 2
    overlay = request.getfixturevalue(name)
    assert not overlay.all("HorizontalPodAutoscaler")
    for scaler in overlay.all("ScaledObject"):
        target = overlay.one("Deployment", scaler["spec"]["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"], "each apply would put the number back"
        assert scaler["spec"]["maxReplicaCount"] > scaler["spec"]["minReplicaCount"] >= 2
        assert {each["type"] for each in scaler["spec"]["triggers"]} == {"prometheus"}
        assert "hearloop_live_streams" in scaler["spec"]["triggers"][0]["metadata"]["query"]
    drain = predictor["autoScaling"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"]
    assert drain >= predictor["timeout"], "a replica drains as long as that"


def test_a_rollout_owns_the_version_and_the_canary(overlay: Overlay) -> None:
    """Applied again, the manifests must leave what a rollout has set as it is."""
    spec = overlay.one("InferenceService")["spec"]
    assert "canary" not in spec
    assert "name" not in spec["predictor"]
    assert "env" not in spec["predictor"]["model"]


def test_only_kserve_sends_callers_to_a_canary(overlay: Overlay) -> None:
    """Partners and the health check go past its weights; Prometheus sees the canary too."""
    stable = overlay.serving()
    canary = {**stable.labels, **CANARY_LABELS}
    selector = {"matchLabels": overlay.one("Service", "hearloop-serving")["spec"]["selector"]}
    assert fits(stable.labels, selector)
    assert not fits(canary, selector)
    watched = overlay.one("PodMonitor", "hearloop-serving")["spec"]["selector"]
    budget = overlay.one("PodDisruptionBudget", "hearloop-serving")["spec"]["selector"]
    for each in (watched, budget):
        assert fits(stable.labels, each)
        assert fits(canary, each)


def test_who_is_scraped_listens(overlay: Overlay) -> None:
    pods = {pod.name: pod for pod in overlay.pods()}
    for monitor in overlay.all("PodMonitor", "hearloop"):
        found = [p for p in pods.values() if fits(p.labels, monitor["spec"]["selector"])]
        assert found, monitor["metadata"]["name"]
        for pod in found:
            ports = {port["name"] for port in pod.spec["containers"][0]["ports"]}
            assert {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]} <= ports
    for monitor in overlay.all("ServiceMonitor"):
        (service,) = (
            one
            for one in overlay.all("Service")
            if fits(one["metadata"].get("labels", {}), monitor["spec"]["selector"])
        )
        ports = {port["name"] for port in service["spec"]["ports"]}
        assert {each["port"] for each in monitor["spec"]["endpoints"]} <= ports


def test_the_monitor_owns_the_retrain_schedule(overlay: Overlay) -> None:
    data = overlay.one("ConfigMap", "hearloop-retrain")["data"]
    assert Recipe.from_json(data["recipe.json"]) == recipes.retrain(), (
        "python -m pipelines recipe retrain > k8s/base/monitor/retrain.json"
    )
    policy = MonitorPolicy.from_json(data["policy.json"])
    assert policy.every_hours == json.loads(data["policy.json"])["every_hours"]
    assert policy.cooldown_hours < policy.every_hours
    monitor = overlay.one("Deployment", "hearloop-monitor")["spec"]
    follows = overlay.name == "production-standby"
    assert monitor["replicas"] == (0 if follows else 1), "one decides, where it can write"
    (container,) = monitor["template"]["spec"]["containers"]
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == "recipe")
    arguments = options(container["args"])
    for option, file in (("recipe", "recipe.json"), ("policy", "policy.json")):
        assert arguments[option] == f"{mount['mountPath']}/{file}"
    assert not overlay.all("CronJob"), "nobody else schedules"


def test_rules_and_dashboards_are_those_of_monitoring(overlay: Overlay) -> None:
    assert rules.RENDERED.read_text(encoding="utf-8") == rules.rendered(), "python -m k8s.rules"
    shown = {
        name
        for one in overlay.all("ConfigMap", "monitoring")
        if one["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
        for name in one["data"]
    }
    folder = rules.RULES.parent / "dashboards"
    assert shown == {path.name for path in folder.glob("*.json")}
