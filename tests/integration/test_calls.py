"""Calls through a real broker: heard by several members of a group, one of them killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from hearloop import composition
from hearloop.bundle import SERVED, verify
from hearloop.config import Settings
from hearloop.corpora.espeak import Voice, speak
from hearloop.features import SAMPLE_RATE, Samples
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from hearloop.stack import Ports
from hearloop.storage.events import connection, create_topics
from hearloop.storage.objects import S3Objects
from hearloop.streaming import Engine, Event, Final, Hotword, StreamOptions
from serving.calls.models import Models
from serving.calls.worker import GROUP, Worker
from serving.loading import loader
from serving.phrases import Phrases
from serving.request_log import RequestLog
from serving.settings import ServerSettings
from tests.bundles import write_random_bundle

pytestmark = pytest.mark.stack

SENTENCES = ["transfer twenty pounds to anna", "pay the gas bill on monday", "call me at noon"]

CALLS = 4
PATIENCE_SECONDS = 120.0
"""For what takes some seconds on a machine that has nothing else to do."""

PIECE = SAMPLE_RATE // 5
"""Samples of 200 ms."""

TENANT = "acme"
"""Whose calls they are; it has each caller asked for consent."""

PRODUCT = "baab"
"""A name of the tenant's that the model would not write by itself."""

SILENT_CALL = f"{TENANT}/call-3"
"""Nobody asked its caller."""


def trace_of(call: str) -> str:
    """The trace (hex) that a call belongs to."""
    return f"{call[-1]:a>32}"


@pytest.fixture(scope="module")
def settings(
    broker: Settings, object_store: S3Objects, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """Topics, a database and a model in service of the test's own; MLflow is away."""
    home, name = tmp_path_factory.mktemp("calls"), uuid4().hex[:8]
    topics = {
        "call_audio_topic": f"audio-{name}",
        "call_transcripts_topic": f"transcripts-{name}",
    }
    own = broker.model_copy(
        update={
            "mlflow_tracking_uri": f"http://127.0.0.1:{Ports.free().tracking}",
            "database_url": f"sqlite:///{home}/hearloop.db",
            "cache": home / "cache",
            "kafka": broker.kafka.model_copy(update=topics),
        }
    )
    create_topics(own)
    put_in_service(own, "1", seed=1)
    return own


def put_in_service(settings: Settings, version: str, seed: int) -> None:
    """What the model server leaves behind when it takes a version into service."""
    made = write_random_bundle(settings.cache / f"bundle-{version}", seed)
    digest = verify(made).digest
    place = settings.cache / "models" / digest
    place.parent.mkdir(parents=True, exist_ok=True)
    made.rename(place)
    composition.traffic_store(settings).write(Traffic(stable=version), {version: digest})


def in_service(settings: Settings) -> Recogniser:
    """The recogniser of the version that the traffic names."""
    stored = composition.traffic_store(settings).read()
    assert stored is not None
    traffic, digests = stored
    return Recogniser.load(settings.cache / "models" / digests[traffic.stable], SERVED)


@pytest.fixture(scope="module")
def calls() -> dict[str, Samples]:
    """What is said in each call: sentences with pauses that end an utterance."""
    pause = np.zeros(SAMPLE_RATE, np.float32)
    found = {}
    for number in range(CALLS):
        voice = Voice(accent="en-us", variant=f"m{number + 1}", rate=150, pitch=50, pitch_range=50)
        parts = [part for said in speak(voice, SENTENCES) for part in (0.5 * said, pause)]
        found[f"{TENANT}/call-{number}"] = np.concatenate(parts)
    return found


@pytest.fixture(scope="module")
def expected(settings: Settings, calls: dict[str, Samples]) -> dict[str, list[str]]:
    """The utterances of each call, heard without any broker."""
    engine = Engine(in_service(settings), most_streams=CALLS)
    heard: dict[str, list[Event]] = defaultdict(list)
    for call, samples in calls.items():
        stream = engine.open(
            heard[call].append, options=StreamOptions(hotwords=(Hotword(phrase=PRODUCT),))
        )
        stream.accept(quantised(samples))
        stream.finish()
    engine.close(60.0)
    return {
        call: [event.transcript.text for event in events if isinstance(event, Final)]
        for call, events in heard.items()
    }


def quantised(samples: Samples) -> Samples:
    return (samples * 32767).astype("<i2").astype(np.float32) / np.float32(32768)


@contextmanager
def workers(
    settings: Settings, log: Path, count: int, collector: str
) -> Iterator[list[subprocess.Popen[bytes]]]:
    own = {
        "HEARLOOP_SERVER_TENANTS": json.dumps(
            {TENANT: {"consent": "asked", "hotwords": {PRODUCT: Hotword.boost}}}
        ),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
    }
    started: list[subprocess.Popen[bytes]] = []
    with log.open("ab") as output:
        try:
            for _ in range(count):
                started.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "serving.calls"],
                        env={**os.environ, **settings.to_environment(), **own},
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
            yield started
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(60)


def send(settings: Settings, calls: dict[str, Samples], share: slice) -> None:
    """Some of the pieces of each call, a piece of each in turn."""
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    for number in range(*share.indices(longest(calls))):
        for call, samples in calls.items():
            pieces = -(-len(samples) // PIECE)
            if number >= pieces:
                continue
            headers = {"sequence": str(number), "last": "1" if number == pieces - 1 else "0"}
            if number == 0:
                headers["traceparent"] = f"00-{trace_of(call)}-0123456789abcdef-01"
                headers |= {} if call == SILENT_CALL else {"consent": "yes"}
            piece = samples[number * PIECE : (number + 1) * PIECE]
            producer.produce(
                settings.kafka.call_audio_topic,
                key=call,
                value=(piece * 32767).astype("<i2").tobytes(),
                headers=headers,
            )
    assert producer.flush(30) == 0


def longest(calls: dict[str, Samples]) -> int:
    return max(-(-len(samples) // PIECE) for samples in calls.values())


@contextmanager
def collector(spans: list[Span]) -> Iterator[str]:
    """The address of an OpenTelemetry collector that gathers what it is sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            sent = ExportTraceServiceRequest.FromString(body)
            for resource in sent.resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Standard error is the test's."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Reader:
    """All records of the transcripts topic so far."""

    def __init__(self, settings: Settings) -> None:
        self.records: list[dict[str, Any]] = []
        self.traces: set[tuple[str, str]] = set()
        """Keys of the records, with the trace that each continues."""
        self._consumer = Consumer(
            {"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": uuid4().hex}
        )
        topic = settings.kafka.call_transcripts_topic
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(3)])

    def until(self, condition: Any, working: Sequence[subprocess.Popen[bytes]], log: Path) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition(self.records):
            assert all(one.poll() is None for one in working), log.read_text()[-4000:]
            assert time.monotonic() < deadline, (self.records, log.read_text()[-4000:])
            message = self._consumer.poll(0.2)
            if message is not None and message.error() is None:
                self.records.append(json.loads(message.value() or b""))
                headers: dict[str, bytes] = dict(message.headers() or [])  # type: ignore[arg-type]
                key = (message.key() or b"").decode()
                self.traces.add((key, headers["traceparent"].decode().split("-")[1]))

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


def finals(records: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for one in records:
        if one["kind"] == "final":
            found[f"{one['tenant']}/{one['call']}"].append(one["text"])
    return dict(found)


def ended(records: Sequence[dict[str, Any]]) -> list[str]:
    return sorted(f"{one['tenant']}/{one['call']}" for one in records if one["kind"] == "ended")


def test_a_member_that_leaves_while_it_joins_keeps_nobody_out(settings: Settings) -> None:
    own, stop = ServerSettings(), threading.Event()
    models = Models(loader(settings, own), composition.traffic_store(settings))
    log = RequestLog(settings, composition.objects(settings), composition.events(settings))
    hasty = Worker(settings, own, models, Phrases(own.tenant), log)
    assert models.follow(stop)
    threading.Timer(1.0, stop.set).start()  # joining takes some seconds
    hasty.run(stop)
    log.close(10.0)
    following = Consumer({**connection(settings), "group.id": GROUP, "session.timeout.ms": 6_000})
    following.subscribe([settings.kafka.call_audio_topic])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not following.assignment() and time.monotonic() < deadline:
        following.poll(0.2)
    joined = following.assignment()
    following.close()
    assert joined, "nobody else is let into the group"


def test_a_member_killed_amid_calls_loses_nothing_and_repeats_nothing(
    settings: Settings, calls: dict[str, Samples], expected: dict[str, list[str]], tmp_path: Path
) -> None:
    assert any(PRODUCT in text.split() for said in expected.values() for text in said), expected
    several = [call for call, said in expected.items() if len(said) > 1]
    assert len(several) >= 2, expected  # that is: something is published before the kill
    log = tmp_path / "workers.log"
    half = longest(calls) // 2
    spans: list[Span] = []
    with collector(spans) as address, Reader(settings) as reader:
        with workers(settings, log, 1, address) as (first,):
            send(settings, calls, slice(0, half))
            reader.until(lambda records: len(finals(records)) >= 2, [first], log)
            first.send_signal(signal.SIGKILL)
            first.wait(10)
        assert not ended(reader.records)
        with workers(settings, log, 2, address) as others:
            send(settings, calls, slice(half, None))
            reader.until(lambda records: len(ended(records)) >= CALLS, others, log)
    assert finals(reader.records) == expected
    assert ended(reader.records) == sorted(calls)
    ids = [one["id"] for one in reader.records]
    assert len(set(ids)) == len(ids)
    objects = composition.objects(settings)
    requests = list(objects.list(f"s3://{settings.buckets.audio}/requests/call-"))
    logged = [json.loads(objects.get(uri)) for uri in requests]
    assert {f"{one['tenant']}/{one['call']}" for one in logged} == set(calls) - {SILENT_CALL}
    traces = {(call, trace_of(call)) for call in calls}
    assert reader.traces == traces
    heard = {
        name: {s.trace_id.hex() for s in spans if s.name == name} for name in ("call", "utterance")
    }
    assert heard["call"] == {trace_of(call) for call in calls}
    assert heard["utterance"]  # those that the killed one had published are not all told
    assert heard["utterance"] <= heard["call"]
