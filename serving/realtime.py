"""Live transcription over WebSocket, as OpenAI's realtime clients speak it.

| route | what |
|---|---|
| `WS /openai/v1/realtime?intent=transcription` | audio in, partial and final transcripts out |
| `POST /openai/v1/realtime/client_secrets` | a short-lived token, for browsers |
| `POST /openai/v1/realtime/transcription_sessions` | the same in its older shape |

Beyond OpenAI's fields: binary messages are audio too; `completed` events bring words with times
and confidences, the request id and the model version; see `realtime_session` for `include`.
"""

import asyncio
import binascii
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Body, Request, WebSocket
from pydantic import BaseModel, Field
from starlette.websockets import WebSocketDisconnect

from hearloop.decoding import Word
from hearloop.errors import HearloopError, InvalidInput
from hearloop.hotwords import Hotword
from hearloop.streaming import Ended, Event, Heard, Partial, SpeechStarted
from hearloop.tokenizer import Tokenizer
from serving import tracing
from serving.access import Gate, Pass
from serving.caller import Caller
from serving.live import Conversation, Live
from serving.pcm import Reader
from serving.phrases import Phrases
from serving.realtime_session import HEARD, WORDS, RealtimeSession
from serving.refusals import answer, count, openai_error, status

__all__ = ["REALTIME_ROUTE", "create_router"]

REALTIME_ROUTE: Final = "/openai/v1/realtime"

IDLE_SECONDS: Final = 300.0
"""A connection that says nothing for so long is closed."""

AHEAD_S: Final = 5.0
"""Seconds of audio that may wait for the recogniser before we stop reading."""

PAUSE_S: Final = 0.02

SHORTEST_COMMIT_S: Final = 0.1
"""As OpenAI's servers: a commit of less is an error."""

GOING_AWAY, INTERNAL, TOO_IDLE = 1001, 1011, 1000
"""Codes of RFC 6455 with which we close."""

log = logging.getLogger(__name__)


class _Expiry(BaseModel):
    anchor: str = "created_at"
    seconds: Annotated[int, Field(ge=10, le=7200)] = 600


class _SecretRequest(BaseModel):
    """The body of a request for a client secret."""

    expires_after: _Expiry = _Expiry()
    session: dict[str, Any] = {}


def create_router(
    live: Live, gate: Gate, phrases: Phrases, model_name: str, served: Callable[[], str]
) -> APIRouter:
    """The routes for the model of that name; `served` tells the tag of its language."""
    router = APIRouter(tags=["realtime"])

    def updated(given: Mapping[str, Any]) -> RealtimeSession:
        return RealtimeSession(model=model_name, language=served()).updated(given)

    @router.websocket(REALTIME_ROUTE)
    async def realtime(websocket: WebSocket) -> None:
        """Live transcription."""
        admitted: Pass = websocket.scope["state"]["admitted"]
        try:
            _check_query(websocket, model_name)
            session = updated(admitted.session)
            caller = Caller.of(websocket.headers)
            known = await phrases.of(caller)

            def expected(keywords: Sequence[str], tokenizer: Tokenizer) -> tuple[Hotword, ...]:
                return phrases.hotwords(keywords, known, caller, tokenizer)

            with gate.stream(admitted.tenant), tracing.span("stream", websocket.headers):
                await _Connection(websocket, live, caller, session, expected).run()
        except HearloopError as error:
            await websocket.send_denial_response(answer(error, REALTIME_ROUTE))

    @router.post(f"{REALTIME_ROUTE}/client_secrets")
    async def client_secret(
        request: Request, wanted: Annotated[_SecretRequest | None, Body()] = None
    ) -> dict[str, Any]:
        """A token with which a browser may transcribe for some minutes."""
        wanted = wanted or _SecretRequest()
        session = updated(wanted.session)
        token, ends = gate.short_lived(
            request.scope["state"]["admitted"], wanted.expires_after.seconds, wanted.session
        )
        return {"value": token, "expires_at": ends, "session": session.to_json(_id("sess"))}

    @router.post(f"{REALTIME_ROUTE}/transcription_sessions")
    async def transcription_session(
        request: Request, wanted: Annotated[dict[str, Any] | None, Body()] = None
    ) -> dict[str, Any]:
        """The same, in the shape of the older API."""
        session = updated(wanted or {})
        admitted = request.scope["state"]["admitted"]
        token, ends = gate.short_lived(admitted, _Expiry().seconds, wanted)
        secret = {"value": token, "expires_at": ends}
        return {**session.to_json(_id("sess")), "client_secret": secret}

    return router


def _check_query(websocket: WebSocket, model_name: str) -> None:
    query = websocket.query_params
    if query.get("intent") != "transcription":
        raise InvalidInput(
            f"The intent is {query.get('intent', '')[:40]!r}; connect with ?intent=transcription."
        )
    if query.get("model", model_name) != model_name:
        raise InvalidInput(
            f"The model {query['model'][:60]!r} is not served here; ask for {model_name!r}."
        )


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:20]}"


class _Connection:
    """One WebSocket."""

    def __init__(
        self,
        websocket: WebSocket,
        live: Live,
        caller: Caller,
        session: RealtimeSession,
        expected: Callable[[Sequence[str], Tokenizer], tuple[Hotword, ...]],
    ) -> None:
        """`expected`: what is to be listened for, of a session's keywords.

        Raises Overloaded, NoModel, ServiceUnavailable or InvalidInput (keywords): before the
        upgrade is accepted.
        """
        self._websocket = websocket
        self._expected = expected
        self._session = session
        self._reader = Reader(session.pcm)
        self._id = _id("sess")
        self._conversation: Conversation = live.admit(caller, self._hear)
        try:
            self._listen(session)
        except HearloopError:
            self._conversation.leave()
            raise
        self._outbox: list[str] = []
        self._posted = asyncio.Event()
        self._events = 0
        self._item = _id("item")
        self._previous: str | None = None
        self._sent_text = ""
        self._closing: int | None = None

    async def run(self) -> None:
        """Until the client leaves, or the server stops."""
        sending: asyncio.Task[None] | None = None
        try:
            offered = self._websocket.scope.get("subprotocols", [])
            await self._websocket.accept("realtime" if "realtime" in offered else None)
            self._post("session.created", session=self._session.to_json(self._id))
            sending = asyncio.create_task(self._send())
            await self._receive()
        except (WebSocketDisconnect, TimeoutError):
            pass
        finally:
            self._conversation.leave()
            if sending:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    # What comes in.

    async def _receive(self) -> None:
        loop, receive = asyncio.get_running_loop(), self._websocket.receive
        rescheduled = loop.time()
        async with asyncio.timeout(IDLE_SECONDS) as idle:
            while (message := await receive())["type"] == "websocket.receive":
                self._take(message)
                while self._conversation.waiting_s > AHEAD_S:
                    await asyncio.sleep(PAUSE_S)
                if (now := loop.time()) > rescheduled + IDLE_SECONDS / 100:  # a timer costs time
                    rescheduled = now
                    idle.reschedule(now + IDLE_SECONDS)

    def _take(self, message: Mapping[str, Any]) -> None:
        event: Any = None
        try:
            if (audio := message.get("bytes")) is not None:
                self._conversation.accept(self._reader.read(audio))
                return
            event = orjson.loads(message["text"])
            if not isinstance(event, dict):
                raise InvalidInput("The message is no JSON object; send an event.")
            self._dispatch(event)
        except orjson.JSONDecodeError as error:
            self._refuse(InvalidInput(f"The message is no JSON ({error}); send an event."), None)
        except HearloopError as error:
            self._refuse(error, event)

    def _dispatch(self, event: dict[str, Any]) -> None:
        match event.get("type"):
            case "input_audio_buffer.append":
                self._append(event.get("audio"))
            case "input_audio_buffer.commit":
                self._commit()
            case "input_audio_buffer.clear":
                self._conversation.clear()
                self._begin_item()
                self._reader = Reader(self._session.pcm)
                self._post("input_audio_buffer.cleared")
            case "session.update":
                self._update(event.get("session"))
                self._post("session.updated", session=self._session.to_json(self._id))
            case "transcription_session.update":
                self._update(event.get("session"))
                told = self._session.to_json(self._id)
                self._post("transcription_session.updated", session=told)
            case other:
                raise InvalidInput(
                    f"The event type {str(other)[:60]!r} means nothing in a transcription session; "
                    "send session.update or input_audio_buffer.append, .commit or .clear."
                )

    def _append(self, audio: Any) -> None:
        if not isinstance(audio, str):
            raise InvalidInput("The event has no audio; send it in base64.")
        try:
            piece = binascii.a2b_base64(audio, strict_mode=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInput(f"The audio is no base64 ({error}); encode it again.") from error
        self._conversation.accept(self._reader.read(piece))

    def _commit(self) -> None:
        if self._conversation.unanswered_s < SHORTEST_COMMIT_S:
            raise InvalidInput(
                f"The buffer holds {self._conversation.unanswered_s * 1000:.0f} ms of audio that "
                f"was not answered; commit after {SHORTEST_COMMIT_S * 1000:.0f} ms at least."
            )
        if len(rest := self._reader.last()):
            self._conversation.accept(rest)
        self._conversation.commit()

    def _update(self, session: Any) -> None:
        changed = self._session.updated(session)
        self._listen(changed)
        if changed.pcm != self._session.pcm:
            self._reader = Reader(changed.pcm)
        self._session = changed

    def _listen(self, session: RealtimeSession) -> None:
        hotwords = self._expected(session.keywords, self._conversation.tokenizer)
        self._conversation.listen(session.options(hotwords))

    def _refuse(self, error: HearloopError, event: Any) -> None:
        count(error)
        known = event.get("event_id") if isinstance(event, dict) else None
        body = openai_error(str(error), status(error))
        self._post("error", error={**body, "event_id": known if isinstance(known, str) else None})

    # What goes out.

    def _hear(self, event: Event, base_s: float) -> None:
        if isinstance(event, Heard):
            if HEARD in self._session.include:
                self._post(HEARD, heard_s=event.heard_s + base_s)
        elif isinstance(event, Partial):
            self._tell_partial(event, base_s)
        elif isinstance(event, SpeechStarted):
            at_ms = round((event.at_s + base_s) * 1000)
            self._post(
                "input_audio_buffer.speech_started", audio_start_ms=at_ms, item_id=self._item
            )
        elif isinstance(event, Ended):
            self._end(event)
        else:
            self._tell_final(event, base_s)

    def _tell_partial(self, partial: Partial, base_s: float) -> None:
        more: dict[str, Any] = {"heard_s": partial.heard_s + base_s}
        if WORDS in self._session.include:
            more["words"] = _words(partial.words, base_s)
        self._tell_text(partial.text, more)

    def _tell_text(self, text: str, more: Mapping[str, Any]) -> None:
        """The end of a text that grows; the whole of one whose words were revised."""
        grown = text.startswith(self._sent_text)
        if not grown:
            more = {**more, "revised": text}
        self._post(
            "conversation.item.input_audio_transcription.delta",
            item_id=self._item,
            content_index=0,
            delta=text[len(self._sent_text) :] if grown else "",
            **more,
        )
        self._sent_text = text

    def _tell_final(self, final: Any, base_s: float) -> None:
        transcript, item = final.transcript, self._item
        if transcript.text != self._sent_text:
            self._tell_text(transcript.text, {"heard_s": final.end_s + base_s})
        if self._session.endpointing and transcript.text:
            end_ms = round((final.end_s + base_s) * 1000)
            self._post("input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=item)
        previous = self._previous
        self._post("input_audio_buffer.committed", item_id=item, previous_item_id=previous)
        content = {"type": "input_audio", "transcript": transcript.text}
        added = {"id": item, "object": "realtime.item", "type": "message", "status": "completed"}
        self._post(
            "conversation.item.added",
            item={**added, "role": "user", "content": [content]},
            previous_item_id=previous,
        )
        self._post(
            "conversation.item.input_audio_transcription.completed",
            item_id=item,
            content_index=0,
            transcript=transcript.text,
            usage={"type": "duration", "seconds": final.end_s - final.start_s},
            confidence=transcript.confidence,
            words=_words(transcript.words, base_s),
            request_id=f"{self._conversation.caller.request_id}-{self._conversation.utterances}",
            model_version=self._conversation.version,
        )
        self._previous = item
        self._begin_item()

    def _begin_item(self) -> None:
        self._item, self._sent_text = _id("item"), ""

    def _end(self, ended: Ended) -> None:
        if ended.error is not None:
            self._refuse(ended.error, None)
        self._closing = GOING_AWAY if ended.error is None else INTERNAL
        self._posted.set()

    def _post(self, kind: str, **fields: Any) -> None:
        self._events += 1
        body = {"type": kind, "event_id": f"event_{self._events}", **fields}
        self._outbox.append(orjson.dumps(body).decode())
        self._posted.set()

    async def _send(self) -> None:
        """Send what is posted, in order; nobody else sends."""
        send = self._websocket.send
        while True:
            await self._posted.wait()
            self._posted.clear()
            posted, self._outbox = self._outbox, []
            for text in posted:
                await send({"type": "websocket.send", "text": text})
            if self._closing is not None and not self._outbox:
                await self._websocket.close(self._closing)
                return


def _words(words: tuple[Word, ...], base_s: float) -> list[dict[str, Any]]:
    return [
        {
            "word": word.text,
            "start": round(word.start_s + base_s, 3),
            "end": round(word.end_s + base_s, 3),
            "confidence": round(float(word.confidence), 4),
        }
        for word in words
    ]
