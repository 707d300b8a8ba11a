"""How an input of the fuzzer reaches each route, and what counts as a crash."""

import base64
import json
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
import httpx
from kserve.protocol.grpc import grpc_predict_v2_pb2
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import CloseCode

from benchmarks.callers import address

__all__ = ["GRPC", "ROUTES", "Thrown", "crashed", "throw"]

_PATIENCE_S: Final = 60.0
_JSON: Final = {"content-type": "application/json"}
_BOUNDARY: Final = "thrown"


@dataclass(frozen=True, kw_only=True)
class Thrown:
    """One input."""

    route: str
    """A name of ROUTES."""
    body: bytes


def _encoded(recording: bytes) -> str:
    return base64.b64encode(recording).decode()


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()


def _file(recording: bytes) -> bytes:
    head = f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return head.encode() + recording + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _grpc(recording: bytes) -> bytes:
    tensor = grpc_predict_v2_pb2.ModelInferRequest.InferInputTensor(
        name="audio", datatype="BYTES", shape=[1], contents={"bytes_contents": [recording]}
    )
    request = grpc_predict_v2_pb2.ModelInferRequest(model_name="hearloop", inputs=[tensor])
    body: bytes = request.SerializeToString()
    return body


def _v2_binary(recording: bytes) -> bytes:
    tensor = {
        "name": "audio",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"binary_data_size": len(recording) + 4},
    }
    return _json({"inputs": [tensor]}) + len(recording).to_bytes(4, "little") + recording


ROUTES: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "file": _file,
    "v1": lambda recording: _json({"instances": [{"audio": {"b64": _encoded(recording)}}]}),
    "v2": lambda recording: _json(
        {
            "inputs": [
                {"name": "audio", "datatype": "BYTES", "shape": [1], "data": [_encoded(recording)]}
            ]
        }
    ),
    "v2-binary": _v2_binary,
    "v2-samples": lambda recording: _json(
        {
            "inputs": [
                {
                    "name": "samples",
                    "datatype": "FP32",
                    "shape": [64],
                    "data": [byte / 255 for byte in recording[:64].ljust(64, b"\0")],
                }
            ]
        }
    ),
    "realtime-text": lambda recording: _json(
        {"type": "input_audio_buffer.append", "audio": _encoded(recording[:8_000])}
    ),
    "realtime-update": lambda recording: _json(
        {
            "type": "session.update",
            "session": {
                "type": "transcription",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 8_000},
                        "transcription": {"language": "en", "keywords": ["magic wallet"]},
                        "turn_detection": {"type": "server_vad", "silence_duration_ms": 400},
                    }
                },
            },
        }
    ),
    "realtime-binary": lambda recording: recording,
    "session": lambda recording: _json(
        {"input_audio_format": "g711_ulaw", "turn_detection": {"type": "server_vad"}}
    ),
    "grpc": _grpc,
    "secret": lambda recording: _json(
        {"expires_after": {"anchor": "created_at", "seconds": 60}, "session": {"include": []}}
    ),
    "correction": lambda recording: _json(
        {"request_id": "a-request", "text": "pay the bill", "contributor": "ada"}
    ),
    "corrected": lambda recording: b"a-correction",
    "queue": lambda recording: b"ada",
    "claim": lambda recording: _json({"contributor": "ada"}),
    "skip": lambda recording: _json({"contributor": "ada"}),
    "traffic": lambda recording: _json({"stable": "1", "canary": "2", "canary_percent": 10}),
}
"""The body of each route with a recording in it, where it takes one; a part of its address where it
has no body."""

_ADDRESSED: Final[Mapping[str, str]] = {
    "corrected": "/feedback/v1/corrections/{}",
    "queue": "/feedback/v1/queue?contributor={}",
}
GRPC: Final = "grpc"
"""The route that is no HTTP/1."""

_PLACES: Final[Mapping[str, tuple[str, str, Mapping[str, str]]]] = {
    "file": (
        "POST",
        "/openai/v1/audio/transcriptions",
        {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"},
    ),
    "v1": ("POST", "/v1/models/hearloop:predict", _JSON),
    "v2": ("POST", "/v2/models/hearloop/infer", _JSON),
    "v2-samples": ("POST", "/v2/models/hearloop/infer", _JSON),
    "secret": ("POST", "/openai/v1/realtime/client_secrets", _JSON),
    "session": ("POST", "/openai/v1/realtime/transcription_sessions", _JSON),
    "correction": ("POST", "/feedback/v1/corrections", _JSON),
    "claim": ("POST", "/feedback/v1/queue/a-request/claim", _JSON),
    "skip": ("POST", "/feedback/v1/queue/a-request/skip", _JSON),
    "traffic": ("PUT", "/rollout/v1/traffic", _JSON),
}


async def throw(
    client: httpx.AsyncClient, thrown: Thrown, channel: grpc.aio.Channel | None = None
) -> int | str:
    """The status of the answer, or what happened instead of one; `channel` is for GRPC."""
    try:
        if thrown.route.startswith("realtime"):
            return await _throw_live(str(client.base_url).rstrip("/"), thrown)
        if thrown.route == GRPC:
            assert channel
            return await _throw_grpc(channel, thrown)
        if thrown.route in _ADDRESSED:
            place = _ADDRESSED[thrown.route].format(urllib.parse.quote(thrown.body[:500], safe=""))
            return (await client.get(place)).status_code
        if thrown.route == "v2-binary":
            length = max(0, thrown.body.find(b"}]}") + 3)
            method, path, headers = _PLACES["v2"]
            headers = {
                "content-type": "application/octet-stream",
                "inference-header-content-length": str(length),
            }
        else:
            method, path, headers = _PLACES[thrown.route]
        answer = await client.request(method, path, content=thrown.body, headers=dict(headers))
        return answer.status_code
    except httpx.HTTPError as error:
        return repr(error)


_INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
_STATUSES: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
}


async def _throw_grpc(channel: grpc.aio.Channel, thrown: Thrown) -> int | str:
    """The bytes of a request as they are; their status as HTTP has it."""
    try:
        await channel.unary_unary(_INFER)(thrown.body, timeout=_PATIENCE_S)
    except grpc.aio.AioRpcError as error:
        details = error.details() or ""  # of what is no message: grpc itself and KServe say no 400
        no_message = "deserializ" in details or "DecodeError" in details
        return 400 if no_message else _STATUSES.get(error.code(), repr(error))
    return 200


async def _throw_live(url: str, thrown: Thrown) -> int | str:
    """The input, then a message that has to be answered if the connection has lived through it."""
    try:
        async with connect(address(url), compression=None) as socket:
            await socket.send(
                thrown.body
                if thrown.route == "realtime-binary"
                else thrown.body.decode(errors="replace")
            )
            await socket.send('{"type":"input_audio_buffer.commit"}')
            await socket.send('{"type":"input_audio_buffer.clear"}')
            async for message in socket:
                if json.loads(message)["type"] == "input_audio_buffer.cleared":
                    return 200
    except InvalidStatus as error:
        return error.response.status_code
    except ConnectionClosed as error:
        too_big = error.rcvd is not None and error.rcvd.code == CloseCode.MESSAGE_TOO_BIG
        return 413 if too_big else repr(error)
    except (WebSocketException, OSError) as error:
        return repr(error)
    return "the connection was closed"


def crashed(answer: int | str) -> bool:
    """Whether this is no answer that a server may give."""
    return isinstance(answer, str) or (answer >= 500 and answer != 503)
