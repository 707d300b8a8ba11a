"""The file route, as OpenAI's clients know it: `POST /openai/v1/audio/transcriptions`."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from hearloop.audio import Limits, TooLong
from hearloop.decoding import Word
from hearloop.errors import HearloopError, NotFound
from serving.caller import REQUEST_ID, Caller
from serving.languages import check_asked, spoken_name
from serving.long_files import LongFiles, Work
from serving.refusals import UnsupportedMedia, count, openai_error, status
from serving.subtitles import Segment, segments, srt, vtt
from serving.transcriber import Answer, Transcriber

__all__ = ["TRANSCRIPTION_ROUTE", "create_router"]

TRANSCRIPTION_ROUTE = "/openai/v1/audio/transcriptions"

Format = Literal["json", "text", "srt", "vtt", "verbose_json"]
Granularity = Literal["word", "segment"]


def create_router(
    transcriber: Transcriber,
    long_files: LongFiles,
    model_name: str,
    served: Callable[[], str],
) -> APIRouter:
    """The route for the model of that name; `served` tells the tag of its language."""
    router = APIRouter(tags=["transcription"])

    @router.post(TRANSCRIPTION_ROUTE, dependencies=[Depends(_check_multipart)], response_model=None)
    async def transcribe(
        request: Request,
        file: Annotated[UploadFile, File()],
        model: Annotated[str, Form()] = model_name,
        language: Annotated[str, Form()] = "",
        languages: Annotated[list[str] | None, Form(alias="languages[]")] = None,
        response_format: Annotated[Format, Form()] = "json",
        stream: Annotated[bool, Form()] = False,
        granularities: Annotated[
            list[Granularity] | None, Form(alias="timestamp_granularities[]")
        ] = None,
        keywords: Annotated[list[str] | None, Form(alias="keywords[]")] = None,
    ) -> Response:
        """Transcribe one uploaded file; `stream` sends the text as events, piece by piece (of a
        long one while it is recognised), and `keywords` are phrases to expect."""
        if model != model_name:
            raise NotFound(f"The model {model[:60]!r} is not served here; ask for {model_name!r}.")
        spoken = served()
        check_asked([language], spoken)
        check_asked(languages or (), spoken)
        caller, wanted = Caller.of(request.headers), set(granularities or ("word", "segment"))
        told = wanted if response_format == "verbose_json" else None
        if file.size is not None and file.size <= Limits().bytes:
            with suppress(TooLong):
                body = await file.read()
                answer = await transcriber.transcribe(body, caller, keywords or ())
                if stream:
                    return _streamed(_events(answer, spoken, told), answer.headers)
                return _response(answer, response_format, spoken, wanted)
        work = Work(long_files, file.file, caller, keywords or ())
        if stream:
            await work.begun()  # until then a refusal is a status, after that an event
            headers = {REQUEST_ID: caller.request_id}
            return _streamed(_long_events(work, spoken, told), headers)
        answer = await work.answer(request.is_disconnected)
        return _response(answer, response_format, spoken, wanted)

    return router


def _check_multipart(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    if not content_type.startswith("multipart/form-data"):
        raise UnsupportedMedia(
            f"The content type is {content_type[:60]!r}; send the recording as the field file of "
            "multipart/form-data."
        )


def _response(
    answer: Answer, response_format: Format, language: str, wanted: set[Granularity]
) -> Response:
    words = answer.transcript.words
    match response_format:
        case "json":
            return JSONResponse(_body(answer), headers=answer.headers)
        case "verbose_json":
            return JSONResponse(_verbose(answer, language, wanted), headers=answer.headers)
        case "text":
            return PlainTextResponse(answer.transcript.text, headers=answer.headers)
        case "srt":
            return PlainTextResponse(srt(words), headers=answer.headers)
        case "vtt":
            return Response(vtt(words), media_type="text/vtt", headers=answer.headers)


def _body(answer: Answer) -> dict[str, Any]:
    body = {
        "text": answer.transcript.text,
        "usage": {"type": "duration", "seconds": answer.audio_seconds},
        "confidence": answer.transcript.confidence,
        "model_version": answer.model_version,
        "request_id": answer.request_id,
    }
    if answer.utterances:  # each of them can be corrected
        body["utterances"] = [
            {
                "request_id": one.request_id,
                "start": one.start_s,
                "end": one.end_s,
                "text": one.transcript.text,
            }
            for one in answer.utterances
        ]
    return body


def _verbose(answer: Answer, language: str, wanted: set[Granularity]) -> dict[str, Any]:
    words = answer.transcript.words
    body = {
        "task": "transcribe",
        "language": spoken_name(language),
        "duration": answer.audio_seconds,
        **_body(answer),
    }
    if "word" in wanted:
        body["words"] = [_word(word) for word in words]
    if "segment" in wanted:
        body["segments"] = [_segment(n, one) for n, one in enumerate(segments(words))]
    return body


def _word(word: Word) -> dict[str, Any]:
    return {
        "word": word.text,
        "start": word.start_s,
        "end": word.end_s,
        "confidence": word.confidence,
    }


def _segment(number: int, one: Segment) -> dict[str, Any]:
    """OpenAI's fields that a CTC model has no value for are left out."""
    return {
        "id": number,
        "start": one.start_s,
        "end": one.end_s,
        "text": one.text,
        "confidence": sum(word.confidence for word in one.words) / len(one.words),
    }


def _streamed(
    events: Iterable[bytes] | AsyncIterable[bytes], headers: Mapping[str, str]
) -> Response:
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def _events(answer: Answer, language: str, wanted: set[Granularity] | None) -> Iterator[bytes]:
    """Server-sent events: the text segment by segment, then all of it."""
    for number, one in enumerate(segments(answer.transcript.words)):
        yield _delta(number, one.text, one.start_s, one.end_s)
    yield _done(answer, language, wanted)


async def _long_events(
    work: Work, language: str, wanted: set[Granularity] | None
) -> AsyncIterator[bytes]:
    """The same of a long file, utterance by utterance as they are found."""
    number = 0
    try:
        async for one in work.found():
            yield _delta(number, one.transcript.text, one.start_s, one.end_s)
            number += 1
        yield _done(await work.answer(), language, wanted)
    except HearloopError as error:
        count(error)
        yield _event({"error": openai_error(str(error), status(error))})
    finally:
        work.leave()


def _delta(number: int, text: str, start_s: float, end_s: float) -> bytes:
    delta = text if number == 0 else f" {text}"
    body = {"type": "transcript.text.delta", "delta": delta, "start": start_s, "end": end_s}
    return _event(body)


def _done(answer: Answer, language: str, wanted: set[Granularity] | None) -> bytes:
    body = _body(answer) if wanted is None else _verbose(answer, language, wanted)
    return _event({"type": "transcript.text.done", **body})


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
