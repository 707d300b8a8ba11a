"""Prometheus metrics of the server, beside KServe's own on `/metrics`."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, get_args

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hearloop.corrections import Status
from hearloop.feedback import Feedback

if TYPE_CHECKING:  # what is measured imports what it is measured by
    from serving.request_log import RequestLog
    from serving.versions import Versions

__all__ = [
    "CALL_SECONDS",
    "CHUNKS_WAITING",
    "EMPTY_RESULTS",
    "FINAL_LATENCY",
    "FINAL_WORDS",
    "LATENCY",
    "LIVE_STREAMS",
    "OUR_FAULT",
    "PARTIAL_LATENCY",
    "PHRASES",
    "PHRASES_LEFT_OUT",
    "QUEUE_LENGTH",
    "REAL_TIME_FACTOR",
    "REFUSALS",
    "REFUSAL_REASONS",
    "REQUESTS",
    "REVISED_WORDS",
    "TIME_TO_FIRST_WORD",
    "UNREAD_PIECES",
    "WITHHELD",
    "ReviewCollector",
    "expose",
    "expose_log",
]

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

LIVE_STREAMS = Gauge(
    "hearloop_live_streams", "Streams that are open at this moment: what replicas are scaled by"
)
TIME_TO_FIRST_WORD = Histogram(
    "hearloop_time_to_first_word_seconds",
    "From the arrival of the first speech of a stream to its first partial result with a word",
    buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0),
)
PARTIAL_LATENCY = Histogram(
    "hearloop_partial_latency_seconds",
    "From the arrival of the last sample of a chunk to the partial result that covers it",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 2.0, 5.0),
)
FINAL_LATENCY = Histogram(
    "hearloop_final_latency_seconds",
    "From the end of an utterance, found or told by the caller, to its final result",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 2.0, 5.0),
)
REAL_TIME_FACTOR = Histogram(
    "hearloop_real_time_factor",
    "Seconds of recognition, waiting not included, per second of audio",
    buckets=(0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 3.0),
)
QUEUE_LENGTH = Gauge(
    "hearloop_queue_length", "Utterances and chunks that wait for the recogniser or are with it"
)
CHUNKS_WAITING = Gauge(
    "hearloop_live_chunks_waiting",
    "Chunks of live streams that have arrived and are not recognised",
)
FINAL_WORDS = Counter("hearloop_final_words", "Words of the final results of live streams")
REVISED_WORDS = Counter(
    "hearloop_revised_words",
    "Words that partial results of live streams showed and later ones replaced",
)
CALL_SECONDS = Counter(
    "hearloop_call_seconds",
    "Seconds of the utterances of calls in Kafka, each once, by tenant: `other` where the settings "
    "name none of that name",
    ["tenant"],
)
UNREAD_PIECES = Gauge(
    "hearloop_unread_pieces",
    "Pieces of calls in Kafka that this member of the group had not read a few seconds ago",
    ["partition"],
)
EMPTY_RESULTS = Counter("hearloop_empty_results", "Utterances in which no word was heard")

PHRASES = Counter(
    "hearloop_phrases",
    "Questions to the online store for a caller's phrases, by what came: found, none, late (the "
    "request went on without) or failed",
    ["outcome"],
)
for _outcome in ("found", "none", "late", "failed"):
    PHRASES.labels(_outcome)

PHRASES_LEFT_OUT = Counter(
    "hearloop_phrases_left_out",
    "Phrases of tenants and speakers that the model cannot write, each time they were left out",
)

WITHHELD = Counter("hearloop_withheld", "Answers that were not kept because nobody consented")

OUR_FAULT = ("overload", "no_model")
"""Refusals that count against our availability: too much is waiting, or no model is in service."""

REFUSAL_REASONS = (*OUR_FAULT, "rate_limit", "token", "too_large", "media_type", "audio", "request")
"""The others are the caller's: too fast, not allowed, too large, a content type or sound that is
not read, a request that is wrong otherwise."""

REFUSALS = Counter("hearloop_refusals", "Requests and streams refused, by reason", ["reason"])
for _reason in REFUSAL_REASONS:
    REFUSALS.labels(_reason)  # a rate needs the zero before the first one


def expose(versions: "Versions", request_log: "RequestLog") -> None:
    """Register what is read off the server itself at each scrape. Once a process."""
    REGISTRY.register(_ServerState(versions))
    expose_log(request_log)


def expose_log(request_log: "RequestLog") -> None:
    """Register what is read off the log of answers at each scrape. Once a process."""
    REGISTRY.register(_LogState(request_log))


class ReviewCollector(Collector):
    """What waits for review, read off the store of corrections at each scrape."""

    def __init__(
        self,
        feedback: Callable[[], Feedback],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._feedback = feedback
        self._now = now

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        desk = self._feedback()
        counts = desk.store.counts()
        corrections = GaugeMetricFamily(
            "hearloop_corrections", "Corrections by what became of them", labels=["status"]
        )
        for status in get_args(Status):
            corrections.add_metric([status], counts.get(status, 0))
        yield corrections
        oldest = desk.oldest_unreviewed()
        yield GaugeMetricFamily(
            "hearloop_oldest_unreviewed_correction_age_seconds",
            "Age of the oldest correction that nobody can rule on yet; 0 when none waits",
            0.0 if oldest is None else max(0.0, (self._now() - oldest).total_seconds()),
        )


class _ServerState(Collector):
    def __init__(self, versions: "Versions") -> None:
        self._versions = versions

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
        yield self._calls()

    def _calls(self) -> Metric:
        """The evidence of a rollout over many servers (`hearloop.rollout.tallies` reads it)."""
        calls = CounterMetricFamily(
            "hearloop_calls",
            "Calls by version since the traffic was set: all that have begun, those of them with a "
            "failure and those with an empty answer",
            labels=["version", "outcome"],
        )
        for version, tally in self._versions.reading().tallies.items():
            calls.add_metric([version, "begun"], tally.calls)
            calls.add_metric([version, "failed"], tally.failed_calls)
            calls.add_metric([version, "empty"], tally.empty_calls)
        return calls


class _LogState(Collector):
    def __init__(self, request_log: "RequestLog") -> None:
        self._request_log = request_log

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
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
