import json
import re
from typing import Any

import numpy as np
import pytest
from kserve import InferInput, InferRequest, InferResponse

from tests.unit.serving.assembled import (
    FLAC,
    LARGEST,
    V1,
    V2,
    Server,
    encoded,
    heard,
    instance,
    refusal,
    tensor,
)

pytestmark = pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated")  # KServe uses it


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
    assert answer.headers["x-hearloop-model-version"] == "1"


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


def test_too_many_utterances_at_once_are_413(serving: Server) -> None:
    answer = serving.client.post(V1, json={"instances": [instance(b"x")] * 33})
    assert answer.status_code == 413
    assert "33" in refusal(answer)


def test_the_model_describes_its_tensors(serving: Server) -> None:
    described = serving.client.get("/v2/models/hearloop").json()
    assert [tensor["name"] for tensor in described["inputs"]] == ["audio", "samples"]
