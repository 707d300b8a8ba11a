"""What is said of a call: to the topic of transcripts, to the log of answers and to the metrics."""

import logging
from datetime import UTC, datetime

from confluent_kafka import KafkaError, Message, Producer

from hearloop.config import Settings
from hearloop.errors import ServiceUnavailable
from hearloop.features import Samples
from hearloop.storage.events import connection
from serving import metrics, tracing
from serving.calls.call import Call
from serving.calls.pieces import Record
from serving.request_log import Answered, RequestLog
from serving.settings import ServerSettings

__all__ = ["Outbox"]

log = logging.getLogger(__name__)


class Outbox:
    """Of one member of the group. For its thread."""

    def __init__(self, settings: Settings, own: ServerSettings, request_log: RequestLog) -> None:
        self._topic = settings.kafka.call_transcripts_topic
        self._tenants = frozenset(own.tenants)
        self._request_log = request_log
        self._failure: KafkaError | None = None
        self._producer = Producer(
            {**connection(settings), "enable.idempotence": True, "linger.ms": 5}, logger=log
        )

    def publish(self, call: Call, record: Record) -> None:
        """Send a record on its way."""
        self._producer.produce(
            self._topic,
            partition=record.began.partition,
            key=record.key,
            value=record.to_json(),
            headers=list(tracing.headers(call.span).items()),
            on_delivery=self._delivered,
        )

    def answer(self, call: Call, record: Record, samples: Samples, late_s: float) -> None:
        """Publish an utterance, count it and log it like any other: people may correct it, the
        monitor watches it. `samples`: (n,) at 16 kHz, empty where they are not at hand."""
        assert record.transcript is not None
        self.publish(call, record)
        tracing.past("utterance", call.span, late_s)
        empty = not record.transcript.text
        metrics.REQUESTS.labels(record.model_version, "empty" if empty else "answered").inc()
        metrics.FINAL_LATENCY.observe(late_s)
        tenant = call.tenant if call.tenant in self._tenants else "other"
        metrics.CALL_SECONDS.labels(tenant).inc(record.end_s - record.start_s)
        if empty:
            metrics.EMPTY_RESULTS.inc()
        if len(samples):
            self._request_log.put(
                Answered(
                    caller=call.caller(f"call-{record.id[:32]}"),
                    model_version=record.model_version,
                    samples=samples,
                    transcript=record.transcript,
                    received_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                )
            )

    def poll(self) -> None:
        """Hear what the broker says. Raises ServiceUnavailable when it refused a record."""
        self._producer.poll(0)
        if self._failure is not None:
            raise ServiceUnavailable(
                f"The event log refused a transcript: {self._failure.str()}; check that it runs."
            )

    def flush(self, seconds: float) -> bool:
        """Whether all that was published is acknowledged, within so many seconds."""
        return not self._producer.flush(seconds) and self._failure is None

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failure = error
