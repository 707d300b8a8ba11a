"""Prometheus metrics of the monitor, read off its status at each scrape."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["WatchCollector"]


class WatchCollector(Collector):
    """Metrics from `status`, which returns what `/v1/status` answers."""

    def __init__(self, status: Callable[[], Mapping[str, Any]]) -> None:
        self._status = status

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        status = self._status()
        yield from _events(status)
        yield from _shift(status)
        if status["evidence"] is not None:
            yield from _harm(status["evidence"])
        yield from _runs(status["runs"])
        yield CounterMetricFamily(
            "hearloop_monitor_errors",
            "Times that a service which the monitor needs did not answer",
            status["errors"],
        )


def _events(status: Mapping[str, Any]) -> Iterator[Metric]:
    events = CounterMetricFamily(
        "hearloop_monitor_events",
        "Transcription events by what became of them",
        labels=["outcome"],
    )
    for outcome, count in status["counts"].items():
        events.add_metric(["watched" if outcome == "events" else outcome], count)
    yield events
    yield CounterMetricFamily("hearloop_monitor_calls", "Calls watched", status["calls"])
    yield GaugeMetricFamily(
        "hearloop_monitor_open_calls", "Calls that may go on", status["open_calls"]
    )


def _shift(status: Mapping[str, Any]) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "hearloop_monitor_shift", "1 while a shift alarm stands", float(status["shift"])
    )
    yield CounterMetricFamily(
        "hearloop_monitor_alarms", "Shift alarms ever raised", len(status["alarms"])
    )
    yield GaugeMetricFamily(
        "hearloop_monitor_statistic_ratio",
        "The detector's statistic as a share of its threshold; an alarm at 1",
        status["statistic"] / status["alarm_at"],
    )
    signals = GaugeMetricFamily(
        "hearloop_monitor_signal_ratio",
        "Each signal's part of the statistic, as a share of the threshold",
        labels=["signal"],
    )
    for name, part in status["signals"].items():
        signals.add_metric([name], part / status["alarm_at"])
    yield signals
    yield GaugeMetricFamily(
        "hearloop_monitor_review_share_ratio",
        "Share of calls put up for review",
        status["review"]["share"],
    )


def _harm(evidence: Mapping[str, Any]) -> Iterator[Metric]:
    wer = GaugeMetricFamily(
        "hearloop_monitor_wer_ratio",
        "Bounds on the champion's word error rate on corrected calls, and its reference",
        labels=["figure"],
    )
    wer.add_metric(["lower"], evidence["harm"]["lower"])
    wer.add_metric(["upper"], evidence["harm"]["upper"])
    if evidence["reference_wer"] is not None:
        wer.add_metric(["reference"], evidence["reference_wer"])
    yield wer
    minutes = GaugeMetricFamily(
        "hearloop_monitor_corrected_minutes",
        "Audio under corrections since the last run, in minutes",
        labels=["status"],
    )
    minutes.add_metric(["accepted"], evidence["corrected_minutes"])
    minutes.add_metric(["quarantined"], evidence["quarantined_minutes"])
    yield minutes


def _runs(runs: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    counts = dict.fromkeys(("in_flight", "promoted", "succeeded", "failed"), 0)
    for run in runs:
        counts[run["ended"] or "in_flight"] += 1
    family = GaugeMetricFamily(
        "hearloop_monitor_runs", "Retrains by what became of them", labels=["outcome"]
    )
    for outcome, count in counts.items():
        family.add_metric([outcome], count)
    yield family
