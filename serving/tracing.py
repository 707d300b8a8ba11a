"""OpenTelemetry traces: a span for each utterance, each live stream and each call.

The exporter and everything else is chosen by OpenTelemetry's own variables
(OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME …); without an endpoint nothing
is recorded. What was said never becomes an attribute.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

__all__ = ["begun", "headers", "past", "set_up", "span", "stage"]

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_tracer = trace.get_tracer("hearloop.serving")


def set_up(service: str = "hearloop-serving") -> None:
    """Export spans, as of `service`, where the environment names an endpoint."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    name = os.environ.get("OTEL_SERVICE_NAME", service)
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def begun(name: str, headers: Mapping[str, str], **attributes: str) -> trace.Span:
    """A span that belongs to the caller's trace, where its headers (W3C traceparent) name one.

    Whoever asks for it ends it.
    """
    parent = propagate.extract(dict(headers))
    return _tracer.start_span(name, context=parent, attributes=attributes)


@contextmanager
def span(name: str, headers: Mapping[str, str]) -> Iterator[trace.Span]:
    """The same for a block, with which it ends."""
    with trace.use_span(begun(name, headers), end_on_exit=True) as started:
        yield started


def past(name: str, parent: trace.Span, seconds: float) -> None:
    """A part of `parent` that took so many seconds, until now."""
    began = time.time_ns() - int(seconds * 1e9)
    _tracer.start_span(name, trace.set_span_in_context(parent), start_time=began).end()


def headers(parent: trace.Span) -> dict[str, str]:
    """Headers with which somebody else continues the trace of `parent`."""
    found: dict[str, str] = {}
    propagate.inject(found, trace.set_span_in_context(parent))
    return found


@contextmanager
def stage(name: str, parent: trace.Span) -> Iterator[None]:
    """A part of `parent`, which may be worked on in another thread."""
    with _tracer.start_as_current_span(name, context=trace.set_span_in_context(parent)):
        yield
