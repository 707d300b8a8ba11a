"""What is kept, and what never gets into a log or a trace."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from hearloop.config import Settings
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from serving import tracing
from serving.settings import ServerSettings, TenantSettings
from tests.unit.serving.assembled import FILE, FLAC, V1, Server, Shelf, assembled, instance

pytestmark = pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated")

SECONDS_TO_LOG = 30.0


def withheld() -> float:
    return REGISTRY.get_sample_value("hearloop_withheld_total") or 0.0


def logged(server: Server, last: str) -> set[str]:
    """The requests on the log once it has the last; one thread writes them in order."""
    reader = server.events.reader("privacy", [Settings().kafka.transcriptions_topic])
    found: set[str] = set()
    deadline = time.monotonic() + SECONDS_TO_LOG
    while last not in found and time.monotonic() < deadline:
        found |= {event.value["request_id"] for event in reader.poll(0.5)}
    return found


def test_nothing_is_kept_of_a_caller_who_says_no(serving: Server) -> None:
    before = withheld()
    for request_id, consent in (("kept", "yes"), ("not-kept", "no"), ("usual", "")):
        headers = {"x-request-id": request_id}
        headers |= {"x-hearloop-consent": consent} if consent else {}
        answer = serving.client.post(FILE, files={"file": FLAC}, headers=headers)
        assert answer.status_code == 200
    assert logged(serving, last="usual") == {"kept", "usual"}
    assert withheld() == before + 1
    maybe = serving.client.post(FILE, files={"file": FLAC}, headers={"x-hearloop-consent": "maybe"})
    assert maybe.status_code == 400


def test_a_tenant_may_want_each_caller_asked(
    tmp_path: Path, shelf: Shelf, recognisers: dict[str, Recogniser]
) -> None:
    asked = TenantSettings(consent="asked")
    own = ServerSettings(_env_file=None, default_tenant=asked)  # type: ignore[call-arg]
    with assembled(tmp_path, shelf, own) as server:
        server.versions.swap(Traffic(stable="1"), recognisers)
        for request_id, headers in (("silent", {}), ("said-yes", {"x-hearloop-consent": "yes"})):
            server.client.post(
                FILE, files={"file": FLAC}, headers={"x-request-id": request_id, **headers}
            )
        assert logged(server, last="said-yes") == {"said-yes"}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def test_transcripts_stay_out_of_logs_and_traces(
    serving: Server,
    expected: dict[str, str],
    spans: InMemorySpanExporter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    parent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    with caplog.at_level(logging.DEBUG):
        answer = serving.client.post(
            V1, json={"instances": [instance()]}, headers={"traceparent": parent}
        )
    text = expected["1"]
    assert answer.json()["predictions"][0]["text"] == text
    assert text not in caplog.text
    found = {one.name: one for one in spans.get_finished_spans()}
    assert set(found) == {"utterance", "decode", "recognise"}
    context = found["utterance"].get_span_context()
    assert context is not None
    assert trace.format_trace_id(context.trace_id) == "0123456789abcdef0123456789abcdef"
    for one in found.values():
        assert text not in one.to_json()
