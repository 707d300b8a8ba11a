"""How an error becomes an answer: one status code and one clear sentence."""

import math
from http import HTTPStatus

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


def count(error: HearloopError) -> None:
    """Count a refusal by its reason; what is no refusal (a service that is away) has none."""
    reasons = (_REASON[kind] for kind in type(error).__mro__ if kind in _REASON)
    if reason := next(reasons, None):
        metrics.REFUSALS.labels(reason).inc()


def answer(error: HearloopError) -> JSONResponse:
    """The answer to an error: its status, its sentence, and when to try again."""
    count(error)
    code = status(error)
    headers = {}
    if code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        wait = float(getattr(error, "retry_after_s", RETRY_S))
        headers["retry-after"] = str(max(1, math.ceil(wait)))
    if code == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    sentence = str(error).encode(errors="replace").decode()  # callers may send lone surrogates
    return JSONResponse({"error": sentence}, status_code=code, headers=headers)


def answer_errors(app: FastAPI) -> None:
    """Make every route of `app` answer our errors, and malformed bodies, in one sentence."""

    async def known(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HearloopError)
        return answer(error)

    async def malformed(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return answer(InvalidInput(_sentence(error)))

    async def unroutable(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return JSONResponse(
            {"error": error.detail}, status_code=error.status_code, headers=error.headers
        )

    app.add_exception_handler(HTTPException, unroutable)
    app.add_exception_handler(HearloopError, known)
    app.add_exception_handler(RequestValidationError, malformed)


def _sentence(error: RequestValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    return f"The request is wrong at {where}: {first['msg']}; correct it and send it again."
