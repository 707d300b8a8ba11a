"""Pipelines, cost and rollouts: for whoever pays and plans."""

from monitoring.dashboards.panels import board, figure, graph
from monitoring.dashboards.queries import OURS, per_second, quantile, requested

__all__ = ["BOARD"]

STALE_SECONDS = 14 * 86_400
"""The objective of monitoring/rules/objectives.yaml."""

GPU = "nvidia_com_gpu"
"""nvidia.com/gpu, as kube-state-metrics spells it."""

NOW = [
    figure(
        "Age of the champion",
        "s",
        "Since it was registered. Objective: 14 days, 95 % of the time.",
        "hearloop:model_age_seconds",
        bad_from=STALE_SECONDS,
    ),
    figure(
        "Retrain due in",
        "s",
        "By the schedule of the monitor's policy; negative when it is overdue.",
        "max(hearloop_monitor_retrain_due_timestamp_seconds) - time()",
    ),
    figure(
        "Since the last decision",
        "s",
        "The monitor decides every two seconds.",
        "time() - max(hearloop_monitor_last_decision_timestamp_seconds)",
        bad_from=600,
    ),
    figure(
        "GPUs asked for",
        "short",
        "Zero while nothing trains: the nodes go then.",
        f"{requested(GPU)} or vector(0)",
    ),
]

ROLLOUTS = [
    graph(
        "Share of new calls",
        "percent",
        "As each server was told; two versions share the calls during a rollout.",
        {"version {{version}}": "max by (version) (hearloop_traffic_percent)"},
    ),
    graph(
        "Age of the champion",
        "s",
        "Falls with each promotion.",
        {"version {{version}}": "time() - hearloop_model_registered_timestamp_seconds"},
    ),
]

RETRAINS = [
    graph(
        "Retrains by outcome",
        "short",
        "Those that the monitor started, ever.",
        {"{{outcome}}": "max by (outcome) (hearloop_monitor_runs)"},
    ),
    graph(
        "Why no retrain starts",
        "short",
        "Reason of the last decision.",
        {"{{reason}}": "max by (reason) (hearloop_monitor_decision) == 1"},
    ),
    graph(
        "Pipeline runs in KFP",
        "short",
        "All runs that KFP knows, those started by hand too.",
        {
            "succeeded": "sum(resource_manager_workflow_runs_success)",
            "failed": "sum(resource_manager_workflow_runs_failed)",
        },
    ),
    graph(
        "Services that did not answer the monitor",
        "short",
        "It waits, and goes on by itself.",
        {"errors a second": per_second("hearloop_monitor_errors_total")},
    ),
]

QUEUE = [
    graph(
        "Workloads",
        "short",
        "Trainings in Kueue's queue.",
        {
            "waiting ({{status}})": "sum by (status) "
            '(kueue_pending_workloads{cluster_queue="hearloop"})',
            "running": 'sum(kueue_admitted_active_workloads{cluster_queue="hearloop"})',
        },
    ),
    graph(
        "Wait for quota, p95",
        "s",
        "From a training's creation to its admission.",
        {
            "p95": quantile(
                0.95, 'kueue_admission_wait_time_seconds{cluster_queue="hearloop"}', over="1h"
            )
        },
    ),
]


def _hours_a_day(gauge: str) -> str:
    return f"24 * avg_over_time(({gauge} or vector(0))[1d:5m])"


COST = [
    graph(
        "Processors",
        "short",
        "Nodes are bought for what is requested.",
        {
            "requested, {{namespace}}": requested("cpu", "namespace"),
            "used": per_second(f"container_cpu_usage_seconds_total{{{OURS}}}"),
        },
    ),
    graph(
        "Memory",
        "bytes",
        "Nodes are bought for what is requested.",
        {
            "requested, {{namespace}}": requested("memory", "namespace"),
            "used": f"sum(container_memory_working_set_bytes{{{OURS}}})",
        },
    ),
    graph(
        "GPU hours a day",
        "h",
        "What trainings asked for, and what nodes were there for.",
        {
            "asked for": _hours_a_day(requested(GPU)),
            "bought": _hours_a_day(f'sum(kube_node_status_capacity{{resource="{GPU}"}})'),
        },
    ),
    graph(
        "GPU utilisation",
        "percent",
        "Low while a GPU is held: data comes too slowly.",
        {"{{pod}}": "avg by (pod) (DCGM_FI_DEV_GPU_UTIL)"},
    ),
]

BOARD = board(
    "hearloop-pipelines",
    "Hearloop: pipelines, cost and rollouts",
    "Retrains and their schedule, who has the traffic, and what all of it takes.",
    since="now-30d",
    rows={
        "Now": NOW,
        "Rollouts": ROLLOUTS,
        "Retrains": RETRAINS,
        "Queue": QUEUE,
        "What it takes (docs/operate/cost.md turns it into money)": COST,
    },
)
"""Retrains and their schedule, who has the traffic, and what all of it takes."""
