"""KServe's application with our routes, in this process, over a real tiny recogniser."""

import asyncio
import base64
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from fastapi import FastAPI
from kserve import InferInput, InferRequest, InferResponse, ModelRepository
from kserve.protocol.rest.server import RESTServer

from hearloop.audio import Samples, encode_flac
from hearloop.config import Settings
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from hearloop.storage.rollouts import SqlTrafficStore
from hearloop.storage.tables import engine
from hearloop.testing import InMemoryEvents, InMemoryObjects
from serving import transcriber as transcriber_module
from serving.feedback import desk
from serving.model import FixedRepository, SpeechDataPlane, SpeechModel
from serving.request_log import RequestLog
from serving.server import mount, weighing
from serving.traffic import TrafficControl
from serving.transcriber import Transcriber
from serving.versions import Versions
from tests.bundles import noise
from tests.unit.serving.conftest import Shelf, served

pytestmark = pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated")  # KServe uses it

V1 = "/v1/models/hearloop:predict"
V2 = "/v2/models/hearloop/infer"
FILE = "/openai/v1/audio/transcriptions"
TRAFFIC = "/rollout/v1/traffic"
LARGEST = 2_000_000


@dataclass
class Server:
    client: httpx.Client
    versions: Versions
    control: TrafficControl
    shelf: Shelf
    events: InMemoryEvents


@pytest.fixture
def server(tmp_path: Path, shelf: Shelf) -> Iterator[Server]:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/hearloop.db", cache=tmp_path)
    events = InMemoryEvents()
    log = RequestLog(settings, InMemoryObjects(), events)
    versions = Versions()
    transcriber = Transcriber(versions, log, threads=2)
    store = SqlTrafficStore(engine(settings), settings.model_name)
    control = TrafficControl(versions, lambda: shelf, store, tmp_path)
    app = FastAPI()
    mount(
        app, settings, versions, control, transcriber, desk(settings, weighing(versions)), LARGEST
    )
    models = ModelRepository()
    models.update(SpeechModel(settings.model_name, versions, transcriber, control.restore))
    plane = SpeechDataPlane(models, versions)
    rest = RESTServer("kserve.model_server:app", plane, FixedRepository(models), 0)
    rest._register_endpoints(app)
    rest._add_exception_handlers(app)
    with served(app) as client:
        yield Server(client, versions, control, shelf, events)
    log.close(10.0)


@pytest.fixture
def serving(server: Server, recognisers: dict[str, Recogniser]) -> Server:
    server.versions.swap(Traffic(stable="1"), recognisers)
    return server


@pytest.fixture(scope="module")
def expected(recognisers: dict[str, Recogniser]) -> dict[str, str]:
    return {version: one.transcribe(heard()).text for version, one in recognisers.items()}


def heard() -> Samples:
    """The samples as they are after FLAC."""
    return np.rint(noise(1.0) * 32768).clip(-32768, 32767).astype(np.float32) / np.float32(32768)


FLAC = encode_flac(noise(1.0))


def encoded(body: bytes = FLAC) -> str:
    return base64.b64encode(body).decode()


def instance(body: bytes = FLAC) -> dict[str, Any]:
    return {"audio": {"b64": encoded(body)}}


def tensor(**fields: Any) -> dict[str, Any]:
    audio = {"name": "audio", "datatype": "BYTES", "shape": [1], "data": [encoded()]}
    return {"inputs": [{**audio, **fields}]}


def refusal(answer: httpx.Response) -> str:
    """The one sentence of an error."""
    sentence = answer.json()["error"]
    assert answer.json() == {"error": sentence}
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return str(sentence)


def test_v1_answers_each_instance(serving: Server, expected: dict[str, str]) -> None:
    headers = {"x-request-id": "r", "x-hearloop-call": "call-7"}
    answer = serving.client.post(V1, json={"instances": [instance(), instance()]}, headers=headers)
    assert answer.status_code == 200
    first, second = answer.json()["predictions"]
    assert first["text"] == second["text"] == expected["1"]
    assert (first["request_id"], second["request_id"]) == ("r-1", "r-2")
    assert first["model_version"] == "1"
    assert 0 < first["confidence"] <= 1
    assert [word["text"] for word in first["words"]] == expected["1"].split()
    assert answer.headers["x-hearloop-model-version"] == "1"


def test_a_charset_behind_the_content_type_is_fine(serving: Server) -> None:
    body = json.dumps({"instances": [instance()]})
    headers = {"content-type": "application/json; charset=utf-8"}
    assert serving.client.post(V1, content=body, headers=headers).status_code == 200


def test_v2_answers_files_in_base64(serving: Server, expected: dict[str, str]) -> None:
    body = {"id": "mine", **tensor(shape=[2, 1], data=[[encoded()], [encoded()]])}
    answer = serving.client.post(V2, json=body, headers={"x-request-id": "r"})
    assert answer.status_code == 200
    assert answer.json()["id"] == "mine"
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert outputs["text"] == [expected["1"]] * 2
    assert outputs["request_id"] == ["r-1", "r-2"]
    assert outputs["model_version"] == ["1", "1"]
    assert answer.json()["parameters"]["model_version"] == "1"
    assert answer.json()["model_version"] == "1"


def test_v2_answers_samples(serving: Server, expected: dict[str, str]) -> None:
    samples = heard()
    body = tensor(name="samples", datatype="FP32", shape=[1, len(samples)], data=samples.tolist())
    answer = serving.client.post(V2, json=body)
    assert answer.json()["outputs"][0]["data"] == [expected["1"]]


def test_v2_answers_binary_tensors(serving: Server, expected: dict[str, str]) -> None:
    request = InferInput("audio", [1], "BYTES")
    request.set_data_from_numpy(np.array([FLAC], dtype=object), binary_data=True)
    body, length = InferRequest("hearloop", [request]).to_rest()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(length),
    }
    answer = serving.client.post(V2, content=body, headers=headers)
    assert answer.json()["outputs"][0]["data"] == [expected["1"]]


def test_v2_gives_binary_outputs_to_who_asks(serving: Server, expected: dict[str, str]) -> None:
    body = {**tensor(), "parameters": {"binary_data_output": True}}
    answer = serving.client.post(V2, json=body)
    length = int(answer.headers["inference-header-content-length"])
    outputs = InferResponse.from_bytes(answer.content, length).outputs
    assert outputs[0].data == [expected["1"]]


@pytest.mark.parametrize("response_format", ["json", "text", "verbose_json"])
def test_the_file_route_answers_in_each_format(
    serving: Server, expected: dict[str, str], response_format: str
) -> None:
    form = {"model": "hearloop", "language": "en", "response_format": response_format}
    headers = {"x-request-id": "r"}
    answer = serving.client.post(FILE, files={"file": FLAC}, data=form, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "r"
    assert answer.headers["x-hearloop-model-version"] == "1"
    if response_format == "text":
        assert answer.text == expected["1"]
        return
    body = answer.json()
    assert (body["text"], body["model_version"], body["request_id"]) == (expected["1"], "1", "r")
    assert body["confidence"] == pytest.approx(
        float(answer.headers["x-hearloop-confidence"]), abs=1e-4
    )
    if response_format == "verbose_json":
        assert body["duration"] == 1.0
        assert " ".join(word["word"] for word in body["words"]) == expected["1"]


def test_any_format_of_sound_is_read(serving: Server, expected: dict[str, str]) -> None:
    wav = io.BytesIO()
    soundfile.write(wav, heard(), 16_000, format="WAV", subtype="FLOAT")
    answer = serving.client.post(FILE, files={"file": wav.getvalue()})
    assert answer.json()["text"] == expected["1"]


def test_what_is_answered_is_logged_with_its_call_and_speaker(serving: Server) -> None:
    headers = {"x-hearloop-call": "call-7", "x-hearloop-speaker": "anna"}
    answer = serving.client.post(FILE, files={"file": FLAC}, headers=headers).json()
    reader = serving.events.reader("test", [Settings().kafka.transcriptions_topic])
    (event,) = reader.poll(10.0)
    assert event.key == "call-7"
    assert event.value["speaker"] == "anna"
    assert event.value["text"] == answer["text"]
    assert event.value["request_id"] == answer["request_id"]


V1_REFUSED: list[tuple[Any, str]] = [
    ({}, "instances"),
    ([], "JSON object"),
    ({"instances": []}, "instances"),
    ({"instances": {}}, "instances"),
    ({"instances": ["x"]}, r"instances\[0\]"),
    ({"instances": [instance(), {"audio": {"b64": 7}}]}, r"instances\[1\]"),
    ({"instances": [{"audio": {"b64": "?"}}]}, "base64"),
]
V2_REFUSED: list[tuple[Any, str]] = [
    ({"inputs": []}, "0 inputs"),
    ({"inputs": tensor()["inputs"] * 2}, "2 inputs"),
    (tensor(name="sound"), "sound"),
    (tensor(datatype="FP32"), "FP32 'audio'"),
    (tensor(shape=[2]), "shape"),
    (tensor(shape=[]), "shape"),
    (tensor(shape=[1, 2]), "shape"),
    (tensor(shape=[-1]), "shape"),
    (tensor(data=["?"]), "base64"),
    (tensor(data=[7]), "base64"),
    (tensor(name="samples", datatype="FP32", shape=[2], data=["a", "b"]), "samples"),
    (tensor(name="samples", datatype="FP32", shape=[3], data=[0.0, 1.0]), "samples"),
    ({"inputs": [{"name": "audio"}]}, "inputs.0"),
    ("text", "inference-header-content-length"),
]


@pytest.mark.parametrize(("body", "said"), V1_REFUSED)
def test_v1_says_what_is_wrong(serving: Server, body: Any, said: str) -> None:
    answer = serving.client.post(V1, json=body)
    assert answer.status_code == 400
    assert re.search(said, refusal(answer))


@pytest.mark.parametrize(("body", "said"), V2_REFUSED)
def test_v2_says_what_is_wrong(serving: Server, body: Any, said: str) -> None:
    answer = serving.client.post(V2, json=body)
    assert answer.status_code == 400
    assert re.search(said, refusal(answer))


@pytest.mark.parametrize(
    ("samples", "said"),
    [([float("nan"), 0.0], "finite"), ([0.0, 40.0], "scale"), ([0.0] * 960_001, "960000")],
)
def test_samples_that_are_no_speech_are_422(
    serving: Server, samples: list[float], said: str
) -> None:
    request = InferInput("samples", [len(samples)], "FP32")
    request.set_data_from_numpy(np.array(samples, np.float32), binary_data=True)
    body, length = InferRequest("hearloop", [request]).to_rest()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(length),
    }
    if len(body) > LARGEST:
        body = body[:LARGEST]
    answer = serving.client.post(V2, content=body, headers=headers)
    assert answer.status_code == 422
    assert said in refusal(answer)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"inputs": 7}', b'{"inputs": [{"name": "audio", "shape": [1]}]}']
)
def test_broken_binary_requests_are_refused(serving: Server, body: bytes) -> None:
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(body)),
    }
    answer = serving.client.post(V2, content=body, headers=headers)
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_broken_lengths_inside_a_binary_tensor_are_refused(serving: Server) -> None:
    described = {
        "inputs": [
            {
                "name": "audio",
                "datatype": "BYTES",
                "shape": [1],
                "parameters": {"binary_data_size": 8},
            }
        ]
    }
    text = json.dumps(described).encode()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(text)),
    }
    answer = serving.client.post(V2, content=text + b"\xff\xff\xff\x7fabcd", headers=headers)
    assert answer.status_code == 400
    assert "audio" in refusal(answer)


@pytest.mark.parametrize("route", [V1, V2])
def test_broken_json_is_400(serving: Server, route: str) -> None:
    headers = {"content-type": "application/json"}
    answer = serving.client.post(route, content=b'{"inputs": [', headers=headers)
    assert answer.status_code == 400
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    "body", [b"", b"no sound at all", FLAC[:200], b"RIFF\x00\x00\x00\x00WAVE" + b"\xff" * 100]
)
def test_what_is_no_recording_is_422_and_the_server_lives(serving: Server, body: bytes) -> None:
    assert serving.client.post(FILE, files={"file": body}).status_code == 422
    assert serving.client.post(V1, json={"instances": [instance(body)]}).status_code == 422
    assert serving.client.post(FILE, files={"file": FLAC}).status_code == 200


def test_other_content_types_are_415(serving: Server) -> None:
    for route in (V1, FILE):
        answer = serving.client.post(route, content=FLAC, headers={"content-type": "audio/flac"})
        assert answer.status_code == 415
        assert "audio/flac" in refusal(answer)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("route", [V1, V2, FILE, TRAFFIC])
def test_bodies_beyond_the_bound_are_413(serving: Server, route: str, chunked: bool) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    body = part + b"x" * LARGEST
    content: Any = iter([body[:LARGEST], body[LARGEST:]]) if chunked else body
    method = "PUT" if route == TRAFFIC else "POST"
    headers = {"content-type": "multipart/form-data; boundary=x" if route == FILE else "text/json"}
    answer = serving.client.request(method, route, content=content, headers=headers)
    assert answer.status_code == 413
    assert str(LARGEST) in refusal(answer)
    assert serving.client.post(FILE, files={"file": FLAC}).status_code == 200


def test_too_many_utterances_at_once_are_413(serving: Server) -> None:
    answer = serving.client.post(V1, json={"instances": [instance(b"x")] * 33})
    assert answer.status_code == 413
    assert "33" in refusal(answer)


@pytest.mark.parametrize(
    ("form", "status"),
    [({"model": "whisper-1"}, 404), ({"language": "de"}, 400), ({"response_format": "srt"}, 400)],
)
def test_the_file_route_refuses_what_it_does_not_do(
    serving: Server, form: dict[str, str], status: int
) -> None:
    answer = serving.client.post(FILE, files={"file": FLAC}, data=form)
    assert answer.status_code == status
    refusal(answer)


def test_a_name_that_is_no_key_is_refused_everywhere(serving: Server) -> None:
    answer = serving.client.post(FILE, files={"file": FLAC}, headers={"x-hearloop-call": "../x"})
    assert answer.status_code == 400
    assert "x-hearloop-call" in refusal(answer)


def test_every_answer_has_a_request_id(server: Server) -> None:
    for path in ("/", "/nothing", "/v2/models/hearloop/ready", TRAFFIC):
        assert server.client.get(path).headers["x-request-id"]


def test_without_a_model_everything_is_503_and_says_why(server: Server) -> None:
    body = {"instances": [instance()]}
    answers = [
        server.client.post(V1, json=body),
        server.client.post(V2, json=tensor()),
        server.client.post(FILE, files={"file": FLAC}),
    ]
    for answer in answers:
        assert answer.status_code == 503
        assert refusal(answer).startswith("No model is in service yet")
    assert server.client.get("/v2/health/live").json() == {"live": True}
    assert server.client.get("/v1/models/hearloop").status_code == 503
    assert server.client.get(TRAFFIC).json()["traffic"] is None


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_nobody_unloads_the_model_by_kserve_s_routes(serving: Server, verb: str) -> None:
    answer = serving.client.post(f"/v2/repository/models/hearloop/{verb}")
    assert answer.status_code == 409
    assert TRAFFIC in refusal(answer)
    assert serving.client.post(FILE, files={"file": FLAC}).status_code == 200


def test_an_unknown_model_is_404(serving: Server) -> None:
    answer = serving.client.post("/v1/models/other:predict", json={"instances": [instance()]})
    assert answer.status_code == 404


def test_the_model_describes_its_tensors(serving: Server) -> None:
    described = serving.client.get("/v2/models/hearloop").json()
    assert [tensor["name"] for tensor in described["inputs"]] == ["audio", "samples"]


def test_traffic_is_set_and_reported_with_its_evidence(
    server: Server, expected: dict[str, str]
) -> None:
    put = server.client.put(TRAFFIC, json={"stable": "1"})
    assert put.status_code == 200
    assert put.json()["weights"] == {"1": 100}
    body = {"stable": "1", "canary": "2", "canary_percent": 50}
    assert server.client.put(TRAFFIC, json=body).json()["weights"] == {"1": 50, "2": 50}
    for n in range(40):
        answer = server.client.post(
            FILE, files={"file": FLAC}, headers={"x-hearloop-call": f"call-{n}"}
        ).json()
        assert answer["text"] == expected[answer["model_version"]]
    report = server.client.get(TRAFFIC).json()
    assert report["traffic"] == body
    tallies = report["tallies"]
    assert tallies["1"]["requests"] + tallies["2"]["requests"] == 40
    assert tallies["2"]["calls"] == tallies["2"]["requests"] > 5
    assert 0 < tallies["2"]["p50_ms"] <= tallies["2"]["p95_ms"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"stable": "1", "canary": "2"},
        {"stable": "1", "canary": "2", "canary_percent": 101},
        {"stable": "1", "canary": "2", "canary_percent": 10.5},
        {"stable": "1", "canary_percent": 10},
        {"stable": "1", "canary": "1", "canary_percent": 10},
        {"stable": "1", "weight": 100},
    ],
)
def test_traffic_that_means_nothing_is_400(serving: Server, body: dict[str, Any]) -> None:
    answer = serving.client.put(TRAFFIC, json=body)
    assert answer.status_code == 400
    refusal(answer)
    assert serving.versions.traffic == Traffic(stable="1")


def test_a_damaged_or_unknown_version_is_refused_and_the_old_one_serves_on(
    serving: Server, tmp_path: Path, bundles: dict[str, Path]
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in bundles["2"].iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    weights = bytearray((damaged / "model.onnx").read_bytes())
    weights[len(weights) // 2] ^= 1
    (damaged / "model.onnx").write_bytes(weights)
    serving.shelf.bundles["damaged"] = damaged
    for version in ("damaged", "unknown"):
        body = {"stable": "1", "canary": version, "canary_percent": 10}
        answer = serving.client.put(TRAFFIC, json=body)
        assert answer.status_code == 422
        assert f"Version {version} failed its checks" in refusal(answer)
        assert serving.versions.traffic == Traffic(stable="1")
    assert serving.client.post(FILE, files={"file": FLAC}).status_code == 200


class Broken(Recogniser):
    """A recogniser that passed its checks and fails on callers."""

    def __init__(self) -> None:
        """Nothing is loaded."""

    def transcribe(self, samples: Samples) -> Any:
        raise RuntimeError("out of memory in node 7")


def test_where_the_canary_fails_the_stable_version_answers_and_the_failure_counts(
    server: Server, recognisers: dict[str, Recogniser], expected: dict[str, str]
) -> None:
    traffic = Traffic(stable="1", canary="9", canary_percent=50)
    server.versions.swap(traffic, {"1": recognisers["1"], "9": Broken()})
    for n in range(20):
        answer = server.client.post(
            FILE, files={"file": FLAC}, headers={"x-hearloop-call": f"call-{n}"}
        ).json()
        assert (answer["text"], answer["model_version"]) == (expected["1"], "1")
    tally = server.versions.reading().tallies["9"]
    assert tally.failures == tally.failed_calls == tally.requests > 3


def test_where_the_stable_version_fails_it_says_so(server: Server) -> None:
    server.versions.swap(Traffic(stable="9"), {"9": Broken()})
    answer = server.client.post(FILE, files={"file": FLAC}, headers={"x-request-id": "r"})
    assert answer.status_code == 500
    assert "request r" in refusal(answer)
    assert "node 7" not in answer.text
    assert server.versions.reading().tallies["9"].failures == 1


def test_more_waiting_than_the_server_can_answer_is_503(
    serving: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcriber_module, "MOST_WAITING", 0)
    answer = serving.client.post(FILE, files={"file": FLAC})
    assert answer.status_code == 503
    assert "try again" in refusal(answer)


def test_after_a_restart_the_stored_traffic_is_in_force(server: Server, tmp_path: Path) -> None:
    body = {"stable": "1", "canary": "2", "canary_percent": 10}
    assert server.client.put(TRAFFIC, json={"stable": "1"}).status_code == 200
    assert server.client.put(TRAFFIC, json=body).status_code == 200
    again = restarted(tmp_path, server.shelf)
    assert again.traffic == Traffic(stable="1", canary="2", canary_percent=10)


def restarted(tmp_path: Path, shelf: Shelf) -> Versions:
    """The versions of a server that has just started over the same database."""
    versions = Versions()
    settings = Settings(database_url=f"sqlite:///{tmp_path}/hearloop.db")
    store = SqlTrafficStore(engine(settings), settings.model_name)

    async def start() -> None:
        await TrafficControl(versions, lambda: shelf, store, tmp_path).restore()

    asyncio.run(start())
    return versions


def test_after_a_restart_a_canary_that_is_damaged_by_now_gets_nothing(
    server: Server, tmp_path: Path
) -> None:
    body = {"stable": "1", "canary": "2", "canary_percent": 10}
    assert server.client.put(TRAFFIC, json=body).status_code == 200
    del server.shelf.bundles["2"]
    assert restarted(tmp_path, server.shelf).traffic == Traffic(stable="1")


@pytest.mark.parametrize("damaged", [False, True])
def test_after_a_restart_the_cached_copy_serves_unless_it_is_damaged(
    server: Server, tmp_path: Path, bundles: dict[str, Path], damaged: bool
) -> None:
    assert server.client.put(TRAFFIC, json={"stable": "1"}).status_code == 200
    copy = tmp_path / Recogniser.load(bundles["1"]).bundle.digest
    shutil.copytree(bundles["1"], copy)
    if damaged:
        (copy / "model.onnx").write_bytes(b"")
    server.shelf.away = not damaged
    assert restarted(tmp_path, server.shelf).traffic == Traffic(stable="1")


def test_a_registry_that_is_away_leaves_the_traffic_as_it_is(serving: Server) -> None:
    serving.shelf.away = True
    answer = serving.client.put(TRAFFIC, json={"stable": "2"})
    assert answer.status_code == 503
    refusal(answer)
    assert serving.versions.traffic == Traffic(stable="1")


def test_without_stored_traffic_the_champion_serves(tmp_path: Path, shelf: Shelf) -> None:
    assert restarted(tmp_path, shelf).traffic is None
    shelf.crown = "2"
    assert restarted(tmp_path, shelf).traffic == Traffic(stable="2")


def test_metrics_tell_versions_and_outcomes(serving: Server) -> None:
    serving.client.post(FILE, files={"file": FLAC})
    serving.client.post(FILE, files={"file": b"no sound"})
    metrics = serving.client.get("/metrics").text
    assert 'hearloop_requests_total{outcome="answered",version="1"}' in metrics
    assert 'hearloop_requests_total{outcome="refused",version=""}' in metrics
    assert 'hearloop_latency_seconds_count{version="1"}' in metrics
    assert "request_predict_seconds" in metrics


def test_the_server_loads_neither_torch_nor_lhotse() -> None:
    code = (
        "import sys, serving.__main__;"
        "print([name for name in ('torch', 'lhotse', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
