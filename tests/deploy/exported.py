"""The metrics that there are to query: those that the code exports, and those of the platforms."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args

import kserve.metrics
import promql_parser
import pytest
import yaml
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from hearloop.config import Settings
from hearloop.drift.policy import MonitorPolicy
from hearloop.feedback import Feedback
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from hearloop.storage.corrections import SqlCorrectionStore
from hearloop.storage.tables import engine
from hearloop.testing import InMemoryEvents, InMemoryObjects
from monitoring.metrics import WatchCollector
from monitoring.service import Loop
from serving import metrics
from serving.request_log import RequestLog
from serving.tallies import Outcome
from serving.versions import Versions
from tests.unit.drift.traffic import Callers, Deployment, reference

RULES = Path("monitoring/rules")

PLATFORM: Mapping[str, str] = {
    # kube-state-metrics
    "kube_pod_container_resource_requests": "prometheus",
    "kube_pod_container_status_restarts_total": "prometheus",
    "kube_pod_status_phase": "prometheus",
    "kube_node_status_capacity": "prometheus",
    # cAdvisor in the kubelet
    "container_cpu_usage_seconds_total": "prometheus",
    "container_memory_working_set_bytes": "prometheus",
    # the API server of Kubeflow Pipelines (backend/src/apiserver/resource/resource_manager.go)
    "resource_manager_workflow_runs_success": "kfp",
    "resource_manager_workflow_runs_failed": "kfp",
    # pkg/metrics
    "kueue_pending_workloads": "kueue",
    "kueue_admitted_active_workloads": "kueue",
    "kueue_admission_wait_time_seconds_bucket": "kueue",
    # the operator
    "keda_scaler_metrics_value": "keda",
    "DCGM_FI_DEV_GPU_UTIL": "dcgm-exporter",
}
"""Metrics that are not ours, by the platform that brings them (k8s/platforms)."""

TARGET_LABELS = {"namespace", "pod", "job", "instance", "container"}
"""What a scrape adds to every series."""

Exported = Mapping[str, Mapping[str, set[str]]]
"""Values of each label of each sample name."""


def exported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """What the model server, the feedback service and the monitor export, read off themselves."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    families = [*_serving(monkeypatch), *_feedback(folder), *_monitor(folder)]
    for family in families:
        for sample in family.samples:
            labels = found[sample.name]
            for name, value in sample.labels.items():
                labels[name].add(value)
    return found


def _serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metric]:
    for outcome in (*get_args(Outcome), "refused"):
        metrics.REQUESTS.labels("1", outcome)
    metrics.LATENCY.labels("1")
    ours = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    for metric in ours:
        if metric._labelnames and not metric._metrics:  # it has no series before it is counted
            metric.labels(*metric._labelnames)
    stages = [each for each in vars(kserve.metrics).values() if isinstance(each, MetricWrapperBase)]
    for stage in stages:
        stage.labels("hearloop")
    for metric in (*ours, *stages):
        assert metric in set(REGISTRY._collector_to_names), f"{metric} is not exported"
        yield from metric.collect()
    registry = CollectorRegistry()
    monkeypatch.setattr(metrics, "REGISTRY", registry)
    log = RequestLog(Settings(), InMemoryObjects(), InMemoryEvents())
    versions = Versions()
    versions.swap(Traffic(stable="1"), {"1": cast(Recogniser, object())})  # it answers nobody
    metrics.expose(versions, log)
    yield from registry.collect()
    log.close(1.0)


def _feedback(folder: Path) -> Iterator[Metric]:
    database = engine(Settings(database_url=f"sqlite:///{folder}/feedback.db"))
    desk = Feedback(
        settings=Settings(),
        objects=InMemoryObjects(),
        events=InMemoryEvents(),
        store=SqlCorrectionStore(database),
        plausibilities=lambda samples, texts: [0.0 for _ in texts],
    )
    yield from metrics.ReviewCollector(lambda: desk).collect()
    database.dispose()


def _monitor(folder: Path) -> Iterator[Metric]:
    deployment = Deployment(folder)
    deployment.promote("1", reference())
    watch = deployment.watch(MonitorPolicy(close_after_calls=3))
    deployment.answer(Callers(1), 10)
    watch.decide()
    watch.listen(0.0)
    yield from WatchCollector(Loop(watch, crashed=lambda: None).status).collect()
    deployment.close()


def rule_groups() -> dict[str, list[dict[str, Any]]]:
    """All rules by file name."""
    return {
        path.name: [
            rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
        ]
        for path in sorted(RULES.glob("*.yaml"))
    }


def recorded() -> dict[str, set[str]]:
    """Names of recorded series and the values of their label `slo` or `signal`, if any."""
    names: dict[str, set[str]] = defaultdict(set)
    for rule in (rule for rules in rule_groups().values() for rule in rules if "record" in rule):
        names[rule["record"]].update(rule.get("labels", {}).values())
    return names


def selectors(expression: str) -> Iterator[promql_parser.VectorSelector]:
    """Every selector of a PromQL expression. Raises ValueError when it does not parse."""
    yield from _walk(promql_parser.parse(expression))


def _walk(node: Any) -> Iterator[promql_parser.VectorSelector]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("lhs", "rhs", "expr", "param", "vector_selector", "args"):
        child = getattr(node, name, None)
        for each in child if isinstance(child, list) else [child]:
            if each is not None and not isinstance(each, str):
                yield from _walk(each)


def unknown(expression: str, exported: Exported) -> list[str]:
    """What an expression names that nobody exports: metrics, their labels and label values."""
    known = recorded()
    wrong = []
    for selector in selectors(expression):
        if selector.name in exported:
            wrong += list(_unknown_labels(selector, exported[selector.name]))
        elif selector.name not in known and selector.name not in PLATFORM:
            wrong.append(str(selector.name))
    return wrong


def _unknown_labels(
    selector: promql_parser.VectorSelector, labels: Mapping[str, Iterable[str]]
) -> Iterator[str]:
    for matcher in selector.matchers.matchers:
        if matcher.name in TARGET_LABELS:
            continue
        if matcher.name not in labels:
            yield f"{selector.name}{{{matcher.name}}}"
        elif matcher.op in (promql_parser.MatchOp.Equal, promql_parser.MatchOp.Re):
            for value in matcher.value.split("|"):
                if not any(re.fullmatch(value, there) for there in labels[matcher.name]):
                    yield f'{selector.name}{{{matcher.name}="{value}"}}'
