"""How an error becomes an answer: one status code and one clear sentence."""

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
    ServiceUnavailable,
    VersionRefused,
)

__all__ = ["Busy", "RecognitionFailed", "TooLarge", "UnsupportedMedia", "answer_errors", "status"]


class TooLarge(InvalidInput):
    """The body is larger than any utterance that we take."""


class UnsupportedMedia(InvalidInput):
    """The body is of a content type that the route does not read."""


class Busy(ServiceUnavailable):
    """More utterances are waiting than the server can answer in good time."""


class RecognitionFailed(HearloopError):
    """The recogniser failed on an utterance that was decoded."""


_STATUS: dict[type[HearloopError], HTTPStatus] = {
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
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


def answer_errors(app: FastAPI) -> None:
    """Make every route of `app` answer our errors, and malformed bodies, in one sentence."""

    async def known(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HearloopError)
        return JSONResponse({"error": str(error)}, status_code=status(error))

    async def malformed(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return JSONResponse({"error": _sentence(error)}, status_code=HTTPStatus.BAD_REQUEST)

    async def unroutable(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, status_code=error.status_code)

    app.add_exception_handler(HTTPException, unroutable)
    app.add_exception_handler(HearloopError, known)
    app.add_exception_handler(RequestValidationError, malformed)


def _sentence(error: RequestValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    return f"The request is wrong at {where}: {first['msg']}; correct it and send it again."
