"""A client of the model server: recordings, live speech, corrections.

>>> client = Client("http://127.0.0.1:8080")
>>> answer = client.transcribe(Path("call.wav"))
>>> answer.text
'pay the gas bill'
>>> client.correct(answer.request_id, "pay the grass bill", contributor="ada")["status"]
'waiting'
>>> for said in client.stream(microphone_blocks):
...     print(said.text, end="\\n" if said.final else "\\r")

OpenAI's own clients work as well; this one knows what Hearloop adds: confidences, the model
version, and the request id that a correction names.
"""

import base64
import json
import mimetypes
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit, urlunsplit

import httpx
import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from hearloop.config import Settings
from hearloop.decoding import Word
from hearloop.errors import InvalidInput, NotFound, ServiceUnavailable
from hearloop.features import SAMPLE_RATE, Samples

__all__ = ["Answer", "Client", "Said", "Utterance"]

FILE_ROUTE: Final = "/openai/v1/audio/transcriptions"
LIVE_ROUTE: Final = "/openai/v1/realtime?intent=transcription"
CORRECTIONS_ROUTE: Final = "/feedback/v1/corrections"

FILE_SECONDS: Final = 600.0
"""Patience for one file: an hour of speech takes half a minute on a core that has nothing else
to do, and several clients may be ahead of us."""

LAST_SECONDS: Final = 10.0
"""Patience for the last words after the speaker has stopped."""

RECORD_SECONDS: Final = 5.0
"""How long an answer may take to be on record: the server writes it behind the answer's back."""

_FINISH: Final = "finish"
"""Event id of the commits that end a stream."""

_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription"


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """What was said between two pauses of a long recording, in seconds of it."""

    text: str
    start_s: float
    end_s: float
    request_id: str
    """What a correction names."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The transcript of a recording."""

    text: str
    words: tuple[Word, ...]
    confidence: float
    """Mean of the words, 0 to 1."""
    seconds: float
    model_version: str
    request_id: str
    """What a correction names, unless there are utterances."""
    utterances: tuple[Utterance, ...] = ()
    """Of a recording longer than a minute, each to be corrected by itself."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What was said in a live stream so far, or for good."""

    text: str
    words: tuple[Word, ...]
    """Times are seconds of the stream."""
    final: bool
    """Whether the utterance is over: these words will not change."""
    request_id: str = ""
    """What a correction names; empty before the utterance is over."""


class Client:
    """Talks to one model server. Safe between threads."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        """`headers` go with every request: `authorization` where the server asks for a token."""
        self._url = url.rstrip("/")
        self._headers = dict(headers or {})

    @classmethod
    def of(cls, settings: Settings) -> "Client":
        """The client of the settings' server, with its token."""
        return cls(settings.serving_url, settings.serving_headers)

    def transcribe(
        self,
        path: Path,
        *,
        on_sent: Callable[[int], None] = lambda total: None,
        on_heard: Callable[[float], None] = lambda seconds: None,
    ) -> Answer:
        """Transcribe a recording of up to two hours.

        `on_sent` hears how many of its bytes have been sent, then `on_heard` how many of its
        seconds have been recognised. Raises InvalidInput for what the server refuses and
        ServiceUnavailable.
        """
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        with path.open("rb") as file:
            counted = _Counted(file, on_sent)
            request = {
                "files": {"file": (path.name, counted, kind)},
                "data": {
                    "response_format": "verbose_json",
                    "timestamp_granularities[]": "word",
                    "stream": "true",
                },
            }
            answer = self._done(on_heard, request)
        return Answer(
            text=answer["text"],
            words=_words(answer.get("words", [])),
            confidence=answer["confidence"],
            seconds=answer["duration"],
            model_version=answer["model_version"],
            request_id=answer["request_id"],
            utterances=tuple(
                Utterance(
                    text=one["text"],
                    start_s=one["start"],
                    end_s=one["end"],
                    request_id=one["request_id"],
                )
                for one in answer.get("utterances", [])
            ),
        )

    def _done(
        self, on_heard: Callable[[float], None], request: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The last of the events that a file is answered with."""
        try:
            with httpx.stream(
                "POST", self._url + FILE_ROUTE, headers=self._headers, timeout=FILE_SECONDS,
                **request,
            ) as response:  # fmt: skip
                if response.is_error:
                    raise _refusal(response.status_code, response.read().decode(errors="replace"))
                for event in _events(response):
                    if event["type"] == "transcript.text.done":
                        return event
                    on_heard(event["end"])
        except httpx.TransportError as error:
            raise self._away(error) from error
        raise ServiceUnavailable(
            f"The model server at {self._url} ended its answer too early; try again."
        )

    def correct(self, request_id: str, text: str, *, contributor: str) -> dict[str, Any]:
        """Hand in what was really said; returns the correction as it is stored.

        Waits for a few seconds until the answer is on record. Raises NotFound for a request that
        never is, and InvalidInput for text that cannot be a transcript.
        """
        body = {"request_id": request_id, "text": text, "contributor": contributor}
        deadline = time.monotonic() + RECORD_SECONDS
        while True:
            try:
                return self._ask("POST", CORRECTIONS_ROUTE, json=body)
            except NotFound:
                if time.monotonic() > deadline:
                    raise
            time.sleep(RECORD_SECONDS / 20)

    def stream(self, blocks: Iterable[Samples]) -> Iterator[Said]:
        """Transcribe live speech: blocks (n,) of samples at 16 kHz, sent as they come.

        Yields what was said as it changes. Raises InvalidInput and ServiceUnavailable.
        """
        with self._connected() as socket:
            socket.send(json.dumps(_session()))
            sending = _Sending(socket, blocks)
            try:
                yield from _hear(socket, lambda: not sending.is_alive())
            except ConnectionClosed as error:
                if sending.failure:
                    raise sending.failure from None
                raise ServiceUnavailable(
                    f"The model server at {self._url} ended the stream: {error}; begin another."
                ) from error

    @contextmanager
    def _connected(self) -> Iterator[ClientConnection]:
        place = urlsplit(self._url + LIVE_ROUTE)
        scheme = "wss" if place.scheme == "https" else "ws"
        url = urlunsplit(place._replace(scheme=scheme))
        try:
            socket = connect(url, additional_headers=self._headers, max_size=None)
        except InvalidStatus as error:
            response = error.response
            raise _refusal(response.status_code, response.body.decode(errors="replace")) from error
        except (OSError, TimeoutError) as error:
            raise self._away(error) from error
        with socket:
            yield socket

    def _ask(self, method: str, route: str, **request: Any) -> dict[str, Any]:
        try:
            response = httpx.request(method, self._url + route, headers=self._headers, **request)
        except httpx.TransportError as error:
            raise self._away(error) from error
        if response.is_error:
            raise _refusal(response.status_code, response.text)
        answer: dict[str, Any] = response.json()
        return answer

    def _away(self, error: Exception) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"The model server at {self._url} did not answer: {error}; start the stack with "
            "`make up`, or set HEARLOOP_SERVING_URL."
        )


class _Counted:
    """A file that tells how much of it has been read."""

    def __init__(self, file: BinaryIO, on_sent: Callable[[int], None]) -> None:
        self._file = file
        self._on_sent = on_sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._on_sent(self._file.tell())
        return piece


def _refusal(status: int, body: str) -> InvalidInput | NotFound | ServiceUnavailable:
    try:
        error = json.loads(body)["error"]
        sentence = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        sentence = body[:500] or "no reason given"
    message = f"The model server refused ({status}): {sentence}"
    if status == httpx.codes.NOT_FOUND:
        return NotFound(message)
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return ServiceUnavailable(message)
    return InvalidInput(message)


def _events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """Server-sent events. Raises InvalidInput for one that is an error."""
    for line in response.iter_lines():
        name, _, data = line.partition(": ")
        if name != "data":
            continue
        event: dict[str, Any] = json.loads(data)
        if "error" in event:
            raise InvalidInput(f"The model server refused: {event['error']['message']}")
        yield event


def _words(found: Iterable[Mapping[str, Any]]) -> tuple[Word, ...]:
    return tuple(
        Word(
            text=one["word"],
            start_s=one["start"],
            end_s=one["end"],
            confidence=one["confidence"],
        )
        for one in found
    )


def _session() -> dict[str, Any]:
    audio = {"format": {"type": "audio/pcm", "rate": SAMPLE_RATE}}
    session = {"type": "transcription", "audio": {"input": audio}, "include": ["hearloop.words"]}
    return {"type": "session.update", "session": session}


class _Sending(threading.Thread):
    """Sends the blocks, then two commits: the answer to the second has no words left to bring."""

    def __init__(self, socket: ClientConnection, blocks: Iterable[Samples]) -> None:
        super().__init__(name="sending", daemon=True)
        self.failure: Exception | None = None
        """What the source of the blocks raised, if it did."""
        self._socket = socket
        self._blocks = blocks
        self.start()

    def run(self) -> None:
        try:
            for block in self._blocks:
                pcm = (np.clip(block, -1.0, 1.0) * 32767).astype("<i2").tobytes()
                audio = base64.b64encode(pcm).decode()
                self._post({"type": "input_audio_buffer.append", "audio": audio})
            for _ in range(2):
                self._post({"type": "input_audio_buffer.commit", "event_id": _FINISH})
        except ConnectionClosed:
            return  # whoever listens learns of it too
        except Exception as error:
            self.failure = error
            self._socket.close()

    def _post(self, event: Mapping[str, Any]) -> None:
        self._socket.send(json.dumps(event))


def _hear(socket: ClientConnection, sent: Callable[[], bool]) -> Iterator[Said]:
    while True:
        try:
            event = json.loads(socket.recv(timeout=LAST_SECONDS))
        except TimeoutError:
            if sent():
                return
            continue
        match event["type"]:
            case "error" if event["error"].get("event_id") == _FINISH:
                return
            case "error":
                raise InvalidInput(f"The model server refused: {event['error']['message']}")
            case kind if kind == f"{_TRANSCRIPTION}.delta":
                words = _words(event.get("words", []))
                text = " ".join(word.text for word in words)
                yield Said(text=text, words=words, final=False)
            case kind if kind == f"{_TRANSCRIPTION}.completed":
                if not event["transcript"]:
                    return
                yield Said(
                    text=event["transcript"],
                    words=_words(event["words"]),
                    final=True,
                    request_id=event["request_id"],
                )
