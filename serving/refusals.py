"""How an error becomes an answer: one status code and one clear sentence."""

import math
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hearloop.errors import (
    Conflict,
    HearloopError,
    InvalidAudio,
    InvalidInput,
    InvalidTranscript,
    NotFound,
    Overloaded,
    ServiceUnavailable,
    VersionRefused,
)
from serving import metrics

__all__ = [
    "Busy",
    "Forbidden",
    "NoModel",
    "RecognitionFailed",
    "TooFast",
    "TooLarge",
    "Unauthorised",
    "UnsupportedMedia",
    "answer",
    "answer_errors",
    "count",
    "openai_error",
    "status",
]


class TooLarge(InvalidInput):
    """The body is larger than any utterance that we take."""


class UnsupportedMedia(InvalidInput):
    """The body is of a content type that the route does not read."""


class Unauthorised(InvalidInput):
    """There is no token, or none that is valid."""


class Forbidden(InvalidInput):
    """The token has not the role that the route asks for."""


class TooFast(InvalidInput):
    """The tenant asks for more than it may."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NoModel(ServiceUnavailable):
    """No version is in service yet."""


class Busy(Overloaded):
    """More utterances are waiting than the server can answer in good time."""


class RecognitionFailed(HearloopError):
    """The recogniser failed on an utterance that was decoded."""


OPENAI = "/openai/"
"""Paths of the protocols whose errors are objects."""

_TYPES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
"""The type that OpenAI gives to an error, by status; others of the caller are
`invalid_request_error`."""

RETRY_S = 1.0
"""How soon to try again where nobody knows better."""

_STATUS: dict[type[HearloopError], HTTPStatus] = {
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Unauthorised: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    TooFast: HTTPStatus.TOO_MANY_REQUESTS,
    InvalidAudio: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidTranscript: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidInput: HTTPStatus.BAD_REQUEST,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    VersionRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    ServiceUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    HearloopError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status(error: HearloopError) -> HTTPStatus:
    """The HTTP status of an error: that of its nearest class."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


_REASON: dict[type[HearloopError], str] = {
    Overloaded: "overload",
    NoModel: "no_model",
    TooFast: "rate_limit",
    Unauthorised: "token",
    Forbidden: "token",
    TooLarge: "too_large",
    UnsupportedMedia: "media_type",
    InvalidAudio: "audio",
    InvalidInput: "request",
    NotFound: "request",
    Conflict: "request",
}


def _reason(error: HearloopError) -> str | None:
    return next((_REASON[kind] for kind in type(error).__mro__ if kind in _REASON), None)


def count(error: HearloopError) -> None:
    """Count a refusal by its reason; what is no refusal (a service that is away) has none."""
    if reason := _reason(error):
        metrics.REFUSALS.labels(reason).inc()


def answer(error: HearloopError, path: str, param: str | None = None) -> JSONResponse:
    """The answer to an error: its status, its sentence, and when to try again.

    `path`: of the request, whose protocol says how errors look; `param`: the field that is wrong.
    """
    count(error)
    code = status(error)
    headers = {}
    if code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        wait = float(getattr(error, "retry_after_s", RETRY_S))
        headers["retry-after"] = str(max(1, math.ceil(wait)))
    if code == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    sentence = str(error).encode(errors="replace").decode()  # callers may send lone surrogates
    body = _body(sentence, path, code, _reason(error), param)
    return JSONResponse(body, status_code=code, headers=headers)


def openai_error(
    sentence: str, code: int, reason: str | None = None, param: str | None = None
) -> dict[str, str | None]:
    """An error as the clients of OpenAI's API read it; `reason` is its code, among ours."""
    kind = _TYPES.get(code, "invalid_request_error")
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "server_error"
    return {"message": sentence, "type": kind, "param": param, "code": reason}


def _body(
    sentence: str, path: str, code: int, reason: str | None = None, param: str | None = None
) -> dict[str, Any]:
    if path.startswith(OPENAI):
        return {"error": openai_error(sentence, code, reason, param)}
    return {"error": sentence}


def answer_errors(app: FastAPI) -> None:
    """Make every route of `app` answer our errors, and malformed bodies, in one sentence."""

    async def known(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HearloopError)
        return answer(error, request.url.path)

    async def malformed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        where = _where(error)
        refusal = InvalidInput(
            f"The request is wrong at {where or 'the body'}: {error.errors()[0]['msg']}; correct "
            "it and send it again."
        )
        return answer(refusal, request.url.path, where or None)

    async def unroutable(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        body = _body(str(error.detail), request.url.path, error.status_code)
        return JSONResponse(body, status_code=error.status_code, headers=error.headers)

    app.add_exception_handler(HTTPException, unroutable)
    app.add_exception_handler(HearloopError, known)
    app.add_exception_handler(RequestValidationError, malformed)


def _where(error: RequestValidationError) -> str:
    return ".".join(str(part) for part in error.errors()[0]["loc"] if part != "body")
