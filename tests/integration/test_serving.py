"""A real model server between real services, driven by KServe's own clients and by a rollout."""

import asyncio
import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pytest
import soundfile
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

from hearloop import composition
from hearloop.audio import decode, encode_flac
from hearloop.config import Settings
from hearloop.errors import VersionRefused
from hearloop.events import Transcription
from hearloop.feedback import request_uri
from hearloop.lineage import DatasetUse
from hearloop.ports import Event, EventReader
from hearloop.recipe import RolloutPolicy
from hearloop.rollout import RolloutState, Traffic, roll_out
from hearloop.rollout.http import HttpRouter
from hearloop.stack import Ports
from hearloop.storage.objects import S3Objects
from hearloop.telemetry import Silent
from tests.bundles import noise, write_random_bundle

pytestmark = [
    pytest.mark.stack,
    pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated"),
]

FLAC = encode_flac(noise(1.0))
FILE = "/openai/v1/audio/transcriptions"
CALLERS = 4

POLICY = RolloutPolicy(steps=(25, 50), requests_per_step=10, patience_seconds=60)


@dataclass
class Server:
    """A model server in a process of its own."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    grpc_port: int
    seconds_to_start: float

    def transcribe(self, call: str, request_id: str | None = None) -> httpx.Response:
        headers = {"x-hearloop-call": call} | ({"x-request-id": request_id} if request_id else {})
        return httpx.post(self.url + FILE, files={"file": FLAC}, headers=headers, timeout=30)

    def metric(self, line: str) -> float:
        """Value of the metric whose name and labels are `line`."""
        text = httpx.get(f"{self.url}/metrics").text
        found = [one for one in text.splitlines() if one.startswith(f"{line} ")]
        return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


def start(settings: Settings, home: Path, **environment: str) -> Server:
    ports = Ports.free()
    port, grpc_port = ports.serving, ports.tracking
    log = home / f"serving-{port}.log"
    command = [sys.executable, "-m", "serving", f"--http_port={port}", f"--grpc_port={grpc_port}"]
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **settings.to_environment(), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    until(lambda: process.poll() is not None or answers(url), f"{url} to answer")
    if process.poll() is not None:
        raise AssertionError(log.read_text())
    return Server(process, url, log, grpc_port, time.monotonic() - began)


def stop(server: Server) -> int:
    server.process.send_signal(signal.SIGTERM)
    return server.process.wait(60)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/live", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False


def until(condition: object, what: str, seconds: float = 90.0) -> None:
    """Wait for a condition; fail with what was waited for."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def settings(
    broker: Settings, tracking: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """The stack's settings with a model, a topic and a database of the test's own."""
    home = tmp_path_factory.mktemp("serving")
    return tracking.model_copy(
        update={
            "model_name": f"model-{uuid4().hex[:8]}",
            "database_url": f"sqlite:///{home}/hearloop.db",
            "cache": home / "cache",
        }
    )


@pytest.fixture(scope="module")
def versions(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two registered versions that answer differently."""
    registry = composition.registry(settings)
    home = tmp_path_factory.mktemp("bundles")
    use = DatasetUse(context="train", snapshot="a" * 64, uri="s3://x/y", utterances=1, seconds=1.0)
    return [
        registry.register(
            write_random_bundle(home / str(seed), seed),
            run_id=registry.run(uuid4().hex),
            datasets=[use],
        )
        for seed in (1, 2)
    ]


@pytest.fixture(scope="module")
def server(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = start(settings, tmp_path_factory.mktemp("log"))
    yield started
    if started.process.poll() is None:
        assert stop(started) == 0


@pytest.fixture(scope="module")
def reader(settings: Settings) -> Iterator[EventReader]:
    """Reads every transcription event of the session's broker."""
    topics = [settings.kafka.transcriptions_topic]
    reader = composition.event_reader(settings, group=uuid4().hex, topics=topics)
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def promoted(server: Server, settings: Settings, versions: list[str]) -> Server:
    """The server after the rollout of the first model."""
    assert rolled_out(versions[0], server, settings).status == "promoted"
    return server


def rolled_out(version: str, server: Server, settings: Settings) -> RolloutState:
    return roll_out(
        version,
        router=HttpRouter(server.url),
        store=composition.rollout_store(settings),
        policy=POLICY,
        registry=composition.registry(settings),
        decisions=composition.decisions(settings),
        progress=Silent(),
    )


def traffic(server: Server) -> Traffic | None:
    return HttpRouter(server.url).read().traffic


def test_before_the_first_rollout_it_lives_and_says_that_it_has_no_model(server: Server) -> None:
    answer = server.transcribe("call")
    assert answer.status_code == 503
    assert answer.json()["error"]["message"].startswith("No model is in service yet")
    assert traffic(server) is None


def test_the_first_model_goes_into_service_and_becomes_champion(
    promoted: Server, settings: Settings, versions: list[str]
) -> None:
    assert traffic(promoted) == Traffic(stable=versions[0])
    assert composition.registry(settings).champion() == versions[0]
    assert promoted.transcribe("call").json()["model_version"] == versions[0]


def audio_tensor() -> InferInput:
    tensor = InferInput("audio", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([FLAC], dtype=object), binary_data=True)
    return tensor


def test_kserve_s_own_clients_get_the_same_answer_by_every_protocol(
    promoted: Server, settings: Settings
) -> None:
    name = settings.model_name
    encoded = base64.b64encode(FLAC).decode()

    async def ask() -> list[str]:
        v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
        v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
        grpc = InferenceGRPCClient(f"127.0.0.1:{promoted.grpc_port}")
        as_text = InferInput("audio", [1], "BYTES", [encoded])
        samples = InferInput("samples", [16_000], "FP32")
        samples.set_data_from_numpy(decode(FLAC).samples, binary_data=True)
        try:
            first = await v1.infer(
                promoted.url, {"instances": [{"audio": {"b64": encoded}}]}, model_name=name
            )
            texts = [first["predictions"][0]["text"]]
            for tensor in (as_text, audio_tensor(), samples):
                answer = await v2.infer(promoted.url, InferRequest(name, [tensor]), model_name=name)
                texts.append(answer.outputs[0].data[0])
            answer = await grpc.infer(InferRequest(name, [audio_tensor()], request_id="g"))
            texts.append(answer.outputs[0].as_numpy()[0].decode())
            return texts
        finally:
            await v1.close()
            await v2.close()
            await grpc.close()

    texts = asyncio.run(ask())
    assert len(texts) == 5
    assert set(texts) == {promoted.transcribe("call").json()["text"]}
    assert texts[0]


class Callers:
    """Callers that go on calling until they are told to stop."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.answers: dict[str, list[httpx.Response]] = defaultdict(list)
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(CALLERS)
        self._done = [self._pool.submit(self._call, number) for number in range(CALLERS)]

    def _call(self, caller: int) -> None:
        number = 0
        while not self._stop.is_set():
            call = f"caller-{caller}-{number // 5}"
            self.answers[call].append(self.server.transcribe(call))
            number += 1

    def stop(self) -> list[httpx.Response]:
        """All answers. Raises what a caller raised."""
        self._stop.set()
        self._pool.shutdown()
        for done in self._done:
            done.result()
        return [answer for call in self.answers.values() for answer in call]


def test_a_rollout_under_load_drops_nothing_and_keeps_each_call_on_its_version(
    promoted: Server, settings: Settings, versions: list[str], reader: EventReader
) -> None:
    callers = Callers(promoted)
    try:
        state = rolled_out(versions[1], promoted, settings)
    finally:
        given = callers.stop()
    assert state.status == "promoted"
    assert [step.percent for step in state.steps] == [25, 50]
    assert {answer.status_code for answer in given} == {200}
    for answered in callers.answers.values():
        assert len({answer.json()["model_version"] for answer in answered}) == 1
    assert traffic(promoted) == Traffic(stable=versions[1])
    assert promoted.transcribe("new-call").json()["model_version"] == versions[1]
    assert composition.registry(settings).champion() == versions[1]

    asked = {answer.json()["request_id"] for answer in given}
    logged: dict[str, Event] = {}

    def all_logged() -> bool:
        logged.update({event.value["request_id"]: event for event in reader.poll(0.5)})
        return asked <= logged.keys()

    until(all_logged, "every answer to be logged")
    for answer in given[:: len(given) // 10 + 1]:
        check_logged(settings, answer, logged[answer.json()["request_id"]])


def check_logged(settings: Settings, answer: httpx.Response, event: Event) -> None:
    """The event, the record and the audio tell what was answered."""
    objects = S3Objects(settings)
    logged = Transcription.from_json(event.value)
    given = answer.json()
    record = objects.get(request_uri(settings.buckets.audio, logged.request_id))
    assert Transcription.from_json(json.loads(record)) == logged
    assert event.key == logged.call
    assert (logged.text, logged.model_version) == (given["text"], given["model_version"])
    assert logged.confidence == pytest.approx(given["confidence"])
    assert np.array_equal(decode(objects.get(logged.audio_uri)).samples, decode(FLAC).samples)


def test_a_damaged_version_is_refused_and_the_old_one_serves_on(
    promoted: Server, versions: list[str]
) -> None:
    before = traffic(promoted)
    with pytest.raises(VersionRefused, match="Version 99 failed its checks"):
        HttpRouter(promoted.url).write(Traffic(stable=versions[1], canary="99", canary_percent=10))
    assert traffic(promoted) == before
    assert promoted.transcribe("call").status_code == 200


def test_hostile_bodies_are_refused_and_the_worker_lives(promoted: Server) -> None:
    loud = np.full(16_000, np.nan, np.float32)
    not_finite = io.BytesIO()
    soundfile.write(not_finite, loud, 16_000, format="WAV", subtype="FLOAT")
    bodies = [b"", b"\x00" * 1000, FLAC[:-500], not_finite.getvalue(), os.urandom(5000)]
    for body in bodies:
        answer = httpx.post(promoted.url + FILE, files={"file": body}, timeout=30)
        assert answer.status_code == 422
        assert set(answer.json()) == {"error"}
    gigantic = httpx.post(promoted.url + FILE, files={"file": b"x" * 140_000_000}, timeout=60)
    assert gigantic.status_code == 413
    silent = encode_flac(np.zeros(61 * 16_000, np.float32))
    assert httpx.post(promoted.url + FILE, files={"file": silent}, timeout=30).json()["text"] == ""
    assert promoted.process.poll() is None
    assert promoted.transcribe("call").status_code == 200


def test_a_correction_of_an_answer_is_taken(promoted: Server, settings: Settings) -> None:
    request_id = promoted.transcribe("call").json()["request_id"]
    objects = S3Objects(settings)
    until(
        lambda: objects.exists(request_uri(settings.buckets.audio, request_id)),
        "the answer to be logged",
    )
    body = {"request_id": request_id, "text": "pay the bill", "contributor": "anna"}
    answer = httpx.post(f"{promoted.url}/feedback/v1/corrections", json=body, timeout=30)
    assert answer.status_code == 201
    assert answer.json()["request_id"] == request_id


def test_when_told_to_stop_it_answers_and_logs_what_it_took_then_comes_back_the_same(
    promoted: Server, settings: Settings, versions: list[str], tmp_path: Path
) -> None:
    ids = [uuid4().hex for _ in range(12)]
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(promoted.transcribe, "call", request_id) for request_id in ids]
        asked[0].result()
        code = stop(promoted)
        taken = [
            request_id
            for request_id, one in zip(ids, asked, strict=True)
            if one.exception() is None and one.result().status_code == 200
        ]
    assert code == 0, promoted.log.read_text()
    assert taken
    objects = S3Objects(settings)
    for request_id in taken:
        assert objects.exists(request_uri(settings.buckets.audio, request_id))

    again = start(settings, tmp_path)
    try:
        until(lambda: traffic(again) is not None, "the traffic to be restored")
        assert traffic(again) == Traffic(stable=versions[1])
    finally:
        assert stop(again) == 0


def test_with_everything_else_down_transcription_goes_on(
    promoted: Server, settings: Settings, versions: list[str], tmp_path: Path
) -> None:
    """It starts without MLflow too: from the stored traffic and the copies in the cache."""
    nowhere = f"127.0.0.1:{Ports.free().events}"
    down = start(
        settings,
        tmp_path,
        HEARLOOP_MLFLOW_TRACKING_URI=f"http://{nowhere}",
        HEARLOOP_S3__ENDPOINT_URL=f"http://{nowhere}",
        HEARLOOP_KAFKA__BOOTSTRAP_SERVERS=nowhere,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
    )
    try:
        until(lambda: traffic(down) is not None, "the traffic to be restored")
        began = time.monotonic()
        answer = down.transcribe("call")
        assert answer.status_code == 200
        assert answer.json()["model_version"] == versions[1]
        assert time.monotonic() - began < 5
        lost = 'hearloop_request_log_dropped_total{reason="storage"}'
        until(lambda: down.metric(lost) == 1, "the loss to be counted")
    finally:
        assert stop(down) == 0
