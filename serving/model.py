"""The model behind KServe's V1 and V2 protocols, REST and gRPC."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

import kserve
from grpc import StatusCode
from grpc_interceptor.exceptions import GrpcException
from kserve import InferRequest, InferResponse
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.v2_datamodels import InferenceRequest

from hearloop.errors import Conflict, HearloopError
from serving import tensors
from serving.access import Gate
from serving.caller import Caller
from serving.refusals import count, status
from serving.transcriber import Transcriber
from serving.versions import Versions

__all__ = ["FixedRepository", "SpeechDataPlane", "SpeechModel"]


class SpeechModel(kserve.Model):
    """Speech to text for V1 and V2 requests.

    `restore` runs once the server has started: it finds the traffic of before.
    """

    def __init__(
        self,
        name: str,
        versions: Versions,
        transcriber: Transcriber,
        restore: Callable[[], Coroutine[Any, Any, None]],
        gate: Gate,
    ) -> None:
        super().__init__(name, return_response_headers=True)
        self._versions = versions
        self._transcriber = transcriber
        self._restore = restore
        self._gate = gate
        self._restoring: asyncio.Future[None] | None = None
        self.ready = True
        self.engine = True  # KServe runs start_engine beside its servers

    async def start_engine(self) -> None:
        """Find the traffic that was in force before the server stopped."""
        self._restoring = asyncio.ensure_future(self._restore())
        await asyncio.wait([self._restoring])
        if not self._restoring.cancelled():
            self._restoring.result()

    def stop_engine(self) -> None:
        """Give up looking: the server is stopping."""
        if self._restoring is not None:
            self._restoring.cancel()

    async def healthy(self) -> bool:
        """Whether a version is in service: what the model's readiness routes answer."""
        return self._versions.traffic is not None

    def get_input_types(self) -> list[dict[str, Any]]:
        """The V2 inputs."""
        return tensors.INPUTS

    def get_output_types(self) -> list[dict[str, Any]]:
        """The V2 outputs."""
        return tensors.OUTPUTS

    async def predict(
        self,
        payload: Any,
        headers: Mapping[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | InferResponse:
        """Answer every utterance of a request. Raises HearloopError, or GrpcException in gRPC."""
        try:
            return await self._predict(payload, headers or {}, response_headers)
        except HearloopError as error:
            if isinstance(payload, InferRequest) and payload.from_grpc:
                count(error)
                raise GrpcException(status_code=_code(error), details=str(error)) from error
            raise

    async def _predict(
        self,
        payload: Any,
        headers: Mapping[str, str],
        response_headers: dict[str, str] | None,
    ) -> dict[str, Any] | InferResponse:
        is_v2 = isinstance(payload, InferRequest)
        if is_v2 and payload.from_grpc:  # it has not come through the boundary
            admitted = await self._gate.admit("POST", f"/v2/models/{self.name}/infer", headers)
            headers = {**headers, **self._gate.written(admitted, headers)}
        utterances = (
            tensors.read_v2(payload)
            if is_v2
            else tensors.read_v1(payload, headers.get("content-type", ""))
        )
        callers = Caller.of(headers).numbered(len(utterances))
        answers = await asyncio.gather(
            *(
                self._transcriber.transcribe(utterance, caller)
                for utterance, caller in zip(utterances, callers, strict=True)
            )
        )
        if response_headers is not None:
            response_headers.update(answers[0].headers)
        if is_v2:
            return tensors.write_v2(payload, self.name, answers)
        return tensors.write_v1(answers)


def _code(error: HearloopError) -> StatusCode:
    if status(error) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        unavailable = status(error) == HTTPStatus.SERVICE_UNAVAILABLE
        return StatusCode.UNAVAILABLE if unavailable else StatusCode.INTERNAL
    return _CODES.get(status(error), StatusCode.INVALID_ARGUMENT)


_CODES = {
    HTTPStatus.UNAUTHORIZED: StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: StatusCode.PERMISSION_DENIED,
    HTTPStatus.TOO_MANY_REQUESTS: StatusCode.RESOURCE_EXHAUSTED,
}


class FixedRepository(ModelRepositoryExtension):
    """KServe's routes to load and unload models, closed: one call would end the service."""

    async def load(self, model_name: str) -> None:
        """Raises Conflict."""
        raise Conflict(f"{model_name} is changed by PUT /rollout/v1/traffic, version by version.")

    async def unload(self, model_name: str) -> None:
        """Raises Conflict."""
        await self.load(model_name)


class SpeechDataPlane(DataPlane):
    """KServe's data plane, mended where it meets binary audio and a model without a version."""

    def __init__(self, model_registry: kserve.ModelRepository, versions: Versions) -> None:
        super().__init__(model_registry)
        self._versions = versions

    async def model_ready(
        self, model_name: str, disable_predictor_health_check: bool = False
    ) -> bool:
        """Whether the model is ready; for an inference, ServiceUnavailable that says why not."""
        ready = await super().model_ready(model_name, disable_predictor_health_check)
        if disable_predictor_health_check:
            self._versions.in_service()
        return ready

    def decode_inference_request(
        self, body: bytes | InferenceRequest, headers: dict[str, str], model_name: str
    ) -> InferRequest:
        """Read a V2 request; encoded audio behind its JSON stays bytes.

        KServe 0.21 turns binary BYTES into UTF-8 text, which audio never is.
        """
        if not isinstance(body, bytes):
            return super().decode_inference_request(body, headers, model_name)
        return tensors.read_binary_request(body, headers, model_name)
