"""Prometheus metrics of the server, beside KServe's own on `/metrics`."""

from collections.abc import Iterable, Iterator

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.request_log import RequestLog
from serving.versions import Versions

__all__ = ["LATENCY", "REQUESTS", "expose"]

REQUESTS = Counter(
    "hearloop_requests",
    "Utterances by the version that they went to and by outcome: answered, empty (no word was "
    "heard), failed (the version's fault) or refused (the caller's fault; no version)",
    ["version", "outcome"],
)
LATENCY = Histogram(
    "hearloop_latency_seconds",
    "From the arrival of an utterance to its transcript, waiting included",
    ["version"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8),
)


def expose(versions: Versions, request_log: RequestLog) -> None:
    """Register what is read off the server itself at each scrape. Once a process."""
    REGISTRY.register(_ServerState(versions, request_log))


class _ServerState(Collector):
    def __init__(self, versions: Versions, request_log: RequestLog) -> None:
        self._versions = versions
        self._request_log = request_log

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        traffic = self._versions.traffic
        yield GaugeMetricFamily(
            "hearloop_live", "1 when a model is in service", float(traffic is not None)
        )
        weights = GaugeMetricFamily(
            "hearloop_traffic_percent", "Share of new calls that a version gets", labels=["version"]
        )
        for version, percent in (traffic.weights if traffic else {}).items():
            weights.add_metric([version], percent)
        yield weights
        dropped = CounterMetricFamily(
            "hearloop_request_log_dropped",
            "Answers that were given but not logged, by reason",
            labels=["reason"],
        )
        for reason, count in self._request_log.dropped.items():
            dropped.add_metric([reason], count)
        yield dropped
        yield GaugeMetricFamily(
            "hearloop_request_log_waiting", "Answers not yet logged", self._request_log.waiting
        )
