"""What pods ask for fits on the nodes that terraform buys: else they would wait for ever."""

from typing import Any

import pytest

from hearloop.config import Settings
from pipelines.placement import GPU, PLACEMENTS
from tests.deploy import hcl
from tests.deploy.objects import Manifest, Overlay, Pod

INSTANCES = {
    "m7i.xlarge": (4, 16, 0),
    "m7i.2xlarge": (8, 32, 0),
    "g4dn.xlarge": (4, 16, 1),
    "g5.xlarge": (4, 16, 1),
    "g5.2xlarge": (8, 32, 1),
}
"""vCPUs, GiB of memory and GPUs of the instance types in use (AWS's own figures)."""

KEPT = (0.5, 2.0)
"""vCPUs and GiB that a node keeps: the kubelet's reserve, and what runs on every node."""

PLATFORMS = 0.25
"""Share of the nodes that are always there for the platforms underneath."""

Room = tuple[float, float]

UNITS = {"Ki": 2**-20, "Mi": 2**-10, "Gi": 1.0}


def groups(overlay: Overlay) -> dict[str, dict[str, Any]]:
    """Node groups by name, as the environment asks for them."""
    main = f"environments/{overlay.name.removesuffix('-standby')}/main.tf"
    staging = overlay.name == "staging"
    size = hcl.module(main, "platform")["size"] if staging else hcl.local(main, "size")
    found: dict[str, dict[str, Any]] = size["node_groups"]
    return found


def room(overlay: Overlay, group: str) -> Room:
    """What pods get of the smallest node of a group."""
    types = [each.strip('"') for each in groups(overlay)[group]["instance_types"]]
    cpu, memory = (min(INSTANCES[each][part] for each in types) for part in (0, 1))
    return cpu - KEPT[0], memory - KEPT[1]


def asked(requests: Manifest) -> Room:
    """CPUs and GiB of requests."""
    cpu, memory = str(requests["cpu"]), str(requests["memory"])
    cores = float(cpu.removesuffix("m")) / (1000 if cpu.endswith("m") else 1)
    return cores, float(memory[:-2]) * UNITS[memory[-2:]]


def of_pod(pod: Pod) -> Room:
    each = [asked(container["resources"]["requests"]) for container in pod.spec["containers"]]
    return sum(cpu for cpu, _ in each), sum(memory for _, memory in each)


def fits(wanted: Room, there: Room) -> bool:
    return wanted[0] <= there[0] and wanted[1] <= there[1]


def test_every_pod_fits_on_a_node(cloud: Overlay) -> None:
    for pod in cloud.pods():
        selected = pod.spec.get("nodeSelector", {}).get("hearloop/nodes", "cpu")
        assert fits(of_pod(pod), room(cloud, selected)), pod


@pytest.mark.parametrize("step", PLACEMENTS)
def test_every_step_fits_on_a_node(cloud: Overlay, step: str) -> None:
    placement = PLACEMENTS[step]
    wanted = asked({"cpu": placement.cpu, "memory": placement.memory})
    assert fits(wanted, room(cloud, "cpu"))
    assert step != "train" or fits(wanted, room(cloud, "gpu"))


def test_trainings_ask_for_what_their_runtime_asks_for(
    cloud: Overlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in cloud.settings().items():
        monkeypatch.setenv(variable, value)
    settings = Settings(_env_file=None).trainjob  # type: ignore[call-arg]
    wanted = asked({"cpu": settings.cpu, "memory": settings.memory})
    assert wanted == of_pod(cloud.training())
    assert fits(wanted, room(cloud, "gpu"))


def test_what_always_runs_fits_on_the_nodes_that_are_always_there(cloud: Overlay) -> None:
    least = groups(cloud)["cpu"]["least"]
    cpu, memory = room(cloud, "cpu")
    used = [_times(of_pod(pod), _replicas(cloud, pod, "min")) for pod in cloud.pods()]
    assert sum(each[0] for each in used) <= least * cpu * (1 - PLATFORMS)
    assert sum(each[1] for each in used) <= least * memory * (1 - PLATFORMS)


def test_the_most_replicas_fit_on_the_most_nodes(cloud: Overlay) -> None:
    most = groups(cloud)["cpu"]["most"]
    cpu, memory = room(cloud, "cpu")
    used = [_times(of_pod(pod), _replicas(cloud, pod, "max")) for pod in cloud.pods()]
    assert sum(each[0] for each in used) <= most * cpu
    assert sum(each[1] for each in used) <= most * memory


def test_no_more_gpus_are_promised_than_there_may_be(cloud: Overlay) -> None:
    group = groups(cloud)["gpu"]
    gpus = min(INSTANCES[each.strip('"')][2] for each in group["instance_types"])
    (resources,) = cloud.one("ClusterQueue")["spec"]["resourceGroups"]
    quota = {
        flavour["name"]: {
            each["name"]: int(each["nominalQuota"].rstrip("Gi")) for each in flavour["resources"]
        }
        for flavour in resources["flavors"]
    }
    assert quota["hearloop-gpu"][GPU] == group["most"] * gpus
    assert quota["hearloop-cpu"][GPU] == 0


def _replicas(overlay: Overlay, pod: Pod, end: str) -> int:
    """How many of a pod there are, at least or at most; what ends by itself does not count."""
    if pod.kind == "InferenceService":
        return int(overlay.one("InferenceService")["spec"]["predictor"][f"{end}Replicas"])
    if pod.kind in ("Job", "TrainingRuntime"):
        return 0
    for scaler in overlay.all("ScaledObject"):
        if scaler["spec"]["scaleTargetRef"]["name"] == pod.name:
            return int(scaler["spec"][f"{end}ReplicaCount"])
    return int(overlay.one(pod.kind, pod.name)["spec"]["replicas"])


def _times(one: Room, count: int) -> Room:
    return one[0] * count, one[1] * count
