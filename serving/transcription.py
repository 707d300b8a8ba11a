"""The file route, as OpenAI's clients know it: `POST /openai/v1/audio/transcriptions`."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse

from hearloop.errors import InvalidInput, NotFound
from serving.caller import Caller
from serving.refusals import UnsupportedMedia
from serving.transcriber import Answer, Transcriber

__all__ = ["TRANSCRIPTION_ROUTE", "create_router"]

TRANSCRIPTION_ROUTE = "/openai/v1/audio/transcriptions"

LANGUAGES = {"en": "english"}
"""What the model hears: ISO 639-1 and the name that verbose answers give."""


def create_router(transcriber: Transcriber, model_name: str) -> APIRouter:
    """The route for the model of that name."""
    router = APIRouter(tags=["transcription"])

    @router.post(TRANSCRIPTION_ROUTE, dependencies=[Depends(_check_multipart)], response_model=None)
    async def transcribe(
        request: Request,
        file: Annotated[UploadFile, File()],
        model: Annotated[str, Form()] = model_name,
        language: Annotated[str, Form()] = "en",
        response_format: Annotated[Literal["json", "text", "verbose_json"], Form()] = "json",
    ) -> Response:
        """Transcribe one uploaded file."""
        if model != model_name:
            raise NotFound(f"The model {model[:60]!r} is not served here; ask for {model_name!r}.")
        if language not in LANGUAGES:
            raise InvalidInput(
                f"The language {language[:20]!r} is not served; send one of {sorted(LANGUAGES)}."
            )
        caller = Caller.of(request.headers)
        answer = await transcriber.transcribe(await file.read(), caller)
        if response_format == "text":
            return PlainTextResponse(answer.transcript.text, headers=answer.headers)
        body = _verbose(answer, language) if response_format == "verbose_json" else _body(answer)
        return JSONResponse(body, headers=answer.headers)

    return router


def _check_multipart(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    if not content_type.startswith("multipart/form-data"):
        raise UnsupportedMedia(
            f"The content type is {content_type[:60]!r}; send the recording as the field file of "
            "multipart/form-data."
        )


def _body(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.transcript.text,
        "confidence": answer.transcript.confidence,
        "model_version": answer.model_version,
        "request_id": answer.request_id,
    }


def _verbose(answer: Answer, language: str) -> dict[str, Any]:
    words = [
        {
            "word": word.text,
            "start": word.start_s,
            "end": word.end_s,
            "confidence": word.confidence,
        }
        for word in answer.transcript.words
    ]
    return {
        "task": "transcribe",
        "language": LANGUAGES[language],
        "duration": answer.audio_seconds,
        "words": words,
        **_body(answer),
    }
