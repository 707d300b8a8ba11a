"""From the bodies of the V1 and V2 inference protocols to utterances, and back.

V1   {"instances": [{"audio": {"b64": "…"}}, …]}
V2   BYTES "audio", shape [n] or [n, 1]: encoded files, in base64 when they travel as JSON;
     or FP32 "samples", shape [n] or [1, n]: one utterance at 16 kHz, -1 to 1
"""

import base64
import binascii
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from kserve import InferInput, InferOutput, InferRequest, InferResponse
from kserve.constants.constants import INFERENCE_CONTENT_LENGTH_HEADER
from kserve.protocol.infer_type import RequestedOutput
from numpy.typing import NDArray

from hearloop.audio import SAMPLE_RATE, Audio, Limits
from hearloop.errors import InvalidAudio, InvalidInput
from serving.refusals import TooLarge, UnsupportedMedia
from serving.transcriber import Answer

__all__ = [
    "INPUTS",
    "MOST_UTTERANCES",
    "OUTPUTS",
    "read_binary_request",
    "read_v1",
    "read_v2",
    "write_v1",
    "write_v2",
]

MOST_UTTERANCES = 32
"""Utterances of one request: half of what may wait, so that no caller fills the server alone."""

INPUTS = [
    {"name": "audio", "datatype": "BYTES", "shape": [-1]},
    {"name": "samples", "datatype": "FP32", "shape": [-1]},
]
OUTPUTS = [
    {"name": "text", "datatype": "BYTES", "shape": [-1]},
    {"name": "confidence", "datatype": "FP32", "shape": [-1]},
    {"name": "model_version", "datatype": "BYTES", "shape": [-1]},
    {"name": "request_id", "datatype": "BYTES", "shape": [-1]},
]


def read_v1(payload: Any, content_type: str) -> list[bytes | Audio]:
    """The encoded utterances of a V1 request.

    Raises UnsupportedMedia, TooLarge or InvalidInput.
    """
    instances = _json_object(payload, content_type).get("instances")
    if not isinstance(instances, list) or not instances:
        raise InvalidInput(
            'The body has no "instances"; send {"instances": [{"audio": {"b64": "…"}}]}.'
        )
    _check_count(len(instances))
    return [_v1_audio(number, instance) for number, instance in enumerate(instances)]


def _json_object(payload: Any, content_type: str) -> Mapping[str, Any]:
    """KServe parses only bare `application/json`; a charset behind it leaves us the bytes."""
    if isinstance(payload, bytes):
        if content_type.split(";")[0].strip() != "application/json":
            raise UnsupportedMedia(
                f"The content type is {content_type[:60]!r}; send application/json, or a file to "
                "/openai/v1/audio/transcriptions."
            )
        try:
            payload = json.loads(payload)
        except ValueError as error:
            raise InvalidInput(f"The body is no JSON ({error}); correct it.") from error
    if not isinstance(payload, Mapping):
        raise InvalidInput("The body is no JSON object; send one with instances.")
    return payload


def _v1_audio(number: int, instance: Any) -> bytes:
    audio = instance.get("audio") if isinstance(instance, Mapping) else None
    encoded = audio.get("b64") if isinstance(audio, Mapping) else None
    if not isinstance(encoded, str):
        raise InvalidInput(
            f'instances[{number}] is not {{"audio": {{"b64": "…"}}}}; send each utterance as an '
            "encoded file in base64."
        )
    return _decode_base64(encoded, f"instances[{number}]")


def read_v2(request: InferRequest) -> list[bytes | Audio]:
    """The utterances of a V2 request. Raises TooLarge, InvalidAudio or InvalidInput."""
    if len(request.inputs) != 1:
        raise InvalidInput(
            f"The request has {len(request.inputs)} inputs; send one: BYTES audio or FP32 samples."
        )
    (tensor,) = request.inputs
    if (tensor.name, tensor.datatype) == ("audio", "BYTES"):
        return _files(tensor, binary=tensor._raw_data is not None or bool(request.from_grpc))
    if (tensor.name, tensor.datatype) == ("samples", "FP32"):
        return [_samples(tensor)]
    raise InvalidInput(
        f"The input is {tensor.datatype} {tensor.name[:40]!r}; send BYTES 'audio' (encoded files) "
        "or FP32 'samples' (16 kHz)."
    )


def read_binary_request(body: bytes, headers: Mapping[str, str], model_name: str) -> InferRequest:
    """A V2 request with tensor bytes behind its JSON (the binary data extension).

    Raises InvalidInput.
    """
    try:
        length = int(headers[INFERENCE_CONTENT_LENGTH_HEADER])
        described = json.loads(body[:length])
        inputs, position = [], length
        for entry in described["inputs"]:
            tensor = InferInput(
                str(entry["name"]), [int(size) for size in entry["shape"]], str(entry["datatype"])
            )
            if "data" in entry:
                tensor.data = entry["data"]
            else:
                size = int(entry["parameters"]["binary_data_size"])
                tensor._raw_data = body[position : position + size]
                position += size
            inputs.append(tensor)
        outputs = [
            RequestedOutput(str(entry["name"]), entry.get("parameters"))
            for entry in described.get("outputs") or []
        ]
        request_id, parameters = described.get("id"), described.get("parameters")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"The binary V2 request cannot be read ({error!r}); send its JSON first, its length "
            f"as {INFERENCE_CONTENT_LENGTH_HEADER}, and the binary_data_size of each tensor."
        ) from error
    return InferRequest(
        model_name,
        inputs,
        request_id=request_id,
        parameters=parameters,
        request_outputs=outputs or None,
    )


def _files(tensor: InferInput, *, binary: bool) -> list[bytes | Audio]:
    count = _length(tensor, trailing_one=True)
    _check_count(count)
    values = _array(tensor, object).ravel().tolist()
    if binary:
        return [_as_bytes(value) for value in values]
    if not all(isinstance(value, str) for value in values):
        raise InvalidInput("The data of audio are no strings; send encoded files in base64.")
    return [_decode_base64(value, f"audio[{number}]") for number, value in enumerate(values)]


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _samples(tensor: InferInput) -> Audio:
    limits = Limits()
    length = _length(tensor, trailing_one=False)
    if not 0 < length <= limits.seconds * SAMPLE_RATE:
        raise InvalidAudio(
            f"samples has {length} values; send 1 to {int(limits.seconds * SAMPLE_RATE)} "
            f"({limits.seconds:g} s at 16 kHz)."
        )
    samples = _array(tensor, np.float32).ravel()
    if not np.isfinite(samples).all():
        raise InvalidAudio("samples holds values that are not finite; record it again.")
    peak = float(np.abs(samples).max())
    if peak > 1.0:
        raise InvalidAudio(f"samples reaches {peak:g}; scale it to -1 to 1.")
    return Audio(samples=samples, source_rate=SAMPLE_RATE)


def _length(tensor: InferInput, *, trailing_one: bool) -> int:
    """The one dimension of a vector; a second dimension may be 1."""
    shape = list(tensor.shape)
    length, *rest = (shape if trailing_one else shape[::-1]) or [0]
    if rest not in ([], [1]) or length < 1:
        wanted = "[n] or [n, 1]" if trailing_one else "[n] or [1, n]"
        raise InvalidInput(f"The shape of {tensor.name} is {shape}; send {wanted}.")
    return length


def _array(tensor: InferInput, dtype: type) -> NDArray[Any]:
    """The values of a tensor; there must be as many as its shape says."""
    try:
        values: NDArray[Any] = np.asarray(
            tensor.as_numpy() if tensor._raw_data is not None else tensor.data, dtype=dtype
        )
    except (ValueError, TypeError, OverflowError, struct.error) as error:
        raise InvalidInput(f"The data of {tensor.name} do not fit: {error}.") from error
    if values.size != int(np.prod(tensor.shape)):
        raise InvalidInput(
            f"{tensor.name} has {values.size} values where its shape {tensor.shape} says "
            f"{int(np.prod(tensor.shape))}."
        )
    return values


def _decode_base64(encoded: str, where: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"{where} is no base64 ({error}); encode the file again.") from error


def _check_count(count: int) -> None:
    if count > MOST_UTTERANCES:
        raise TooLarge(
            f"The request has {count} utterances; send at most {MOST_UTTERANCES} at once."
        )


def write_v1(answers: Sequence[Answer]) -> dict[str, Any]:
    """The V1 response: one prediction for each instance."""
    return {"predictions": [_prediction(answer) for answer in answers]}


def _prediction(answer: Answer) -> dict[str, Any]:
    transcript = answer.transcript
    return {
        "text": transcript.text,
        "confidence": transcript.confidence,
        "words": [vars(word) for word in transcript.words],
        "model_version": answer.model_version,
        "request_id": answer.request_id,
    }


def write_v2(request: InferRequest, model_name: str, answers: Sequence[Answer]) -> InferResponse:
    """The V2 response: vectors with one value for each utterance."""
    columns: dict[str, list[Any]] = {
        "text": [answer.transcript.text for answer in answers],
        "confidence": [answer.transcript.confidence for answer in answers],
        "model_version": [answer.model_version for answer in answers],
        "request_id": [answer.request_id for answer in answers],
    }
    outputs = []
    for name, values in columns.items():
        is_number = name == "confidence"
        output = InferOutput(name, [len(answers)], "FP32" if is_number else "BYTES")
        array: NDArray[Any] = np.asarray(values, dtype=np.float32 if is_number else object)
        output.set_data_from_numpy(array, binary_data=False)
        outputs.append(output)
    return InferResponse(
        response_id=request.id or answers[0].request_id,
        model_name=model_name,
        model_version=answers[0].model_version,
        infer_outputs=outputs,
        parameters={  # gRPC has no place for a float here
            "model_version": answers[0].model_version,
            "request_id": answers[0].request_id,
        },
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )
