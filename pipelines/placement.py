"""What each step asks of a cluster: written into the compiled pipeline by kfp-kubernetes.

Names agree with `k8s/`: the ConfigMap and the Secret of the namespace that KFP runs steps in, the
labels and taints of the nodes. The service account is KFP's to set, on submission
(`Settings.kfp_service_account`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kfp import kubernetes
from kfp.dsl import PipelineTask

from components import GPU_IMAGE
from hearloop.config import Settings

__all__ = ["PLACEMENTS", "SECRETS", "SETTINGS", "Placement", "place"]

SETTINGS, SECRETS = "hearloop-settings", "hearloop-secrets"
"""The ConfigMap and the Secret whose keys are settings by their environment names."""

SECRET_VARIABLES: Final = (
    "HEARLOOP_DATABASE_URL",
    "HEARLOOP_KAFKA__SASL_PASSWORD",
    "HEARLOOP_KAFKA__SASL_USERNAME",
    "HEARLOOP_S3__ACCESS_KEY_ID",
    "HEARLOOP_S3__SECRET_ACCESS_KEY",
    "HEARLOOP_SERVING_TOKEN",
)
"""Settings that come from the Secret; all others come from the ConfigMap."""

CACHE: Final = "/var/cache/hearloop"
USER: Final = 10001
"""Of the images, which have no user by name."""

GPU: Final = "nvidia.com/gpu"
"""Resource of the device plugin, and the taint that keeps its nodes free for who asks for it."""

RETRIES: Final = 3
"""A step finds its own work done, so trying again costs little; what stays wrong fails 4 times."""
BACKOFF: Final = ("30s", 2.0, "600s")
"""First wait, factor and longest wait: a node that is replaced takes minutes."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One step's share of a cluster. Requests are limits: a step's time is not to depend on who
    else is on its node."""

    cpu: str
    memory: str
    hours: float
    """After which the step is ended, and tried again."""
    disk: str = "20Gi"
    """Of the cache on the node: audio, features, bundles."""


PLACEMENTS: Final[Mapping[str, Placement]] = {
    "ingest": Placement(cpu="2", memory="4Gi", hours=6),
    "validate": Placement(cpu="1", memory="4Gi", hours=1),
    "extract": Placement(cpu="3", memory="8Gi", hours=6),
    # Here, or watching a TrainJob that asks for nodes of its own.
    "train": Placement(cpu="3", memory="8Gi", hours=48, disk="50Gi"),
    "evaluate": Placement(cpu="3", memory="8Gi", hours=6),
    "judge": Placement(cpu="1", memory="1Gi", hours=1),
    "register": Placement(cpu="1", memory="2Gi", hours=1),
    "roll-out": Placement(cpu="500m", memory="1Gi", hours=24),
    "hold": Placement(cpu="500m", memory="1Gi", hours=1),
}
"""By the name of the task. The memory is four times what the synthetic recipe takes; what needs
processors takes three of the four of a small node, which keeps some for itself."""


def place(task: PipelineTask, *, gpus: int = 0) -> PipelineTask:
    """Write a task's placement into it; `gpus` are its own, not those of a TrainJob."""
    placement = PLACEMENTS[task.name]
    task.set_cpu_request(placement.cpu).set_cpu_limit(placement.cpu)
    task.set_memory_request(placement.memory).set_memory_limit(placement.memory)
    first, factor, longest = BACKOFF
    task.set_retry(RETRIES, first, factor, longest)
    kubernetes.set_timeout(task, seconds=int(placement.hours * 3600))
    _give_settings(task)
    kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "hearloop")
    kubernetes.add_pod_label(task, "app.kubernetes.io/name", "hearloop-pipeline")
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.empty_dir_mount(task, "cache", CACHE, size_limit=placement.disk)
    kubernetes.add_node_selector(task, "kubernetes.io/arch", "amd64")  # what the images are for
    # A node is not taken away for being half empty: a step's hours would be lost.
    kubernetes.add_pod_annotation(task, "cluster-autoscaler.kubernetes.io/safe-to-evict", "false")
    if gpus:
        task.set_container_image(GPU_IMAGE)
        task.set_accelerator_type(GPU).set_accelerator_limit(gpus)
        kubernetes.add_toleration(task, key=GPU, operator="Exists", effect="NoSchedule")
        kubernetes.add_node_selector(task, "hearloop/nodes", "gpu")
    return task


def _give_settings(task: PipelineTask) -> None:
    """Every setting of the code, where the cluster has it; KFP takes them one by one."""
    variables = sorted(Settings.model_construct().to_environment())
    plain = [variable for variable in variables if variable not in SECRET_VARIABLES]
    kubernetes.use_config_map_as_env(task, SETTINGS, {name: name for name in plain}, optional=True)
    kubernetes.use_secret_as_env(
        task, SECRETS, {name: name for name in SECRET_VARIABLES}, optional=True
    )
