"""OpenTelemetry traces: a span for each utterance and each live stream.

The exporter and everything else is chosen by OpenTelemetry's own variables
(OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME …); without an endpoint nothing
is recorded. What was said never becomes an attribute.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

__all__ = ["set_up", "span", "stage"]

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_tracer = trace.get_tracer("hearloop.serving")


def set_up() -> None:
    """Export spans where the environment names an endpoint."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    name = os.environ.get("OTEL_SERVICE_NAME", "hearloop-serving")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


@contextmanager
def span(name: str, headers: Mapping[str, str]) -> Iterator[trace.Span]:
    """A span that belongs to the caller's trace, where its headers (W3C traceparent) name one."""
    parent = propagate.extract(dict(headers))
    with _tracer.start_as_current_span(name, context=parent) as started:
        yield started


@contextmanager
def stage(name: str, parent: trace.Span) -> Iterator[None]:
    """A part of `parent`, which may be worked on in another thread."""
    with _tracer.start_as_current_span(name, context=trace.set_span_in_context(parent)):
        yield
