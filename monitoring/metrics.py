"""Prometheus metrics of the monitor, read off its status at each scrape."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hearloop.drift.policy import Reason

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
            yield from _harm(status["evidence"], status["harm_margin"])
        yield from _champion(status)
        yield from _decisions(status)
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


def _harm(evidence: Mapping[str, Any], margin: float) -> Iterator[Metric]:
    wer = GaugeMetricFamily(
        "hearloop_monitor_wer_ratio",
        "Bounds on the champion's word error rate on corrected calls, its reference, and the "
        "limit above which the lower bound is harm",
        labels=["figure"],
    )
    wer.add_metric(["lower"], evidence["harm"]["lower"])
    wer.add_metric(["upper"], evidence["harm"]["upper"])
    if evidence["reference_wer"] is not None:
        wer.add_metric(["reference"], evidence["reference_wer"])
        wer.add_metric(["limit"], evidence["reference_wer"] + margin)
    yield wer
    minutes = GaugeMetricFamily(
        "hearloop_monitor_corrected_minutes",
        "Audio under corrections since the last run, in minutes",
        labels=["status"],
    )
    minutes.add_metric(["accepted"], evidence["corrected_minutes"])
    minutes.add_metric(["quarantined"], evidence["quarantined_minutes"])
    yield minutes


def _champion(status: Mapping[str, Any]) -> Iterator[Metric]:
    registered = GaugeMetricFamily(
        "hearloop_model_registered_timestamp_seconds",
        "When the champion was registered, in Unix time: the age of what the service knows",
        labels=["version"],
    )
    if status["champion_registered_at"] is not None:
        registered.add_metric([status["champion"]], _unix(status["champion_registered_at"]))
    yield registered


def _decisions(status: Mapping[str, Any]) -> Iterator[Metric]:
    """Times are left out as long as there are none: an alert then misses the series."""
    if status["decided_at"] is not None:
        yield GaugeMetricFamily(
            "hearloop_monitor_last_decision_timestamp_seconds",
            "When the monitor last decided about a retrain, in Unix time",
            _unix(status["decided_at"]),
        )
    if status["retrain_due_at"] is not None:
        yield GaugeMetricFamily(
            "hearloop_monitor_retrain_due_timestamp_seconds",
            "When the schedule makes the next retrain due, in Unix time",
            _unix(status["retrain_due_at"]),
        )
    reasons = GaugeMetricFamily(
        "hearloop_monitor_decision", "1 for the reason of the last decision", labels=["reason"]
    )
    for reason in get_args(Reason):
        reasons.add_metric([reason], float(reason == status["reason"]))
    yield reasons


def _unix(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


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
