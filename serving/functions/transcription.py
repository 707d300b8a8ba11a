"""One object that landed: transcribed by the model server, and the answer left beside it.

    s3://<bucket>/incoming/<name>               what somebody put there
                  transcripts/<name>.json       what was heard: text, words, confidence, request id
                  quarantine/<name>.json        or why it cannot be transcribed

The server takes the utterance into the loop as it does with every caller's: audio, request record
and event, under the request id of the transcript. The id is made of the place and the content, so
an event that comes twice changes nothing, and a correction finds what it corrects.
"""

import hashlib
import json
import logging
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any, Literal

import httpx

from hearloop.errors import HearloopError, InvalidAudio, NotFound, ServiceUnavailable
from hearloop.ports import ObjectStore
from serving.functions.events import Landed

__all__ = ["INCOMING", "LARGEST", "QUARANTINE", "ROUTE", "TRANSCRIPTS", "Outcome", "Transcription"]

INCOMING, TRANSCRIPTS, QUARANTINE = "incoming/", "transcripts/", "quarantine/"
"""Folders of a bucket. What the function writes lies outside of the one that it is called for."""

ROUTE = "/openai/v1/audio/transcriptions"
"""The server's route for files."""

LARGEST = 128 * 1024 * 1024
"""Bytes of an object that is read: more than an hour of 16 kHz and 16 bit. What the server takes
is for the server to say."""

REFUSED = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}
"""Answers that say that the recording is at fault: they will be the same next time."""

Outcome = Literal["transcribed", "already transcribed", "quarantined", "gone", "not ours"]

log = logging.getLogger(__name__)


class Transcription:
    """Objects through the model server. `server`: a client with its address and token."""

    def __init__(self, objects: ObjectStore, server: httpx.Client) -> None:
        self._objects = objects
        self._server = server

    def close(self) -> None:
        """Close the connections to the model server."""
        self._server.close()

    def of(self, landed: Landed) -> Outcome:
        """Transcribe one object, unless that is done; says what was found or done.

        Raises ServiceUnavailable when it has to be tried again.
        """
        if not landed.key.startswith(INCOMING) or landed.key.endswith("/"):
            return "not ours"
        if landed.size > LARGEST:
            sentence = f"The object has {landed.size} bytes where {LARGEST} are taken; split it."
            return self._quarantine(landed, "", sentence)
        try:
            recording = self._objects.get(landed.uri)
        except NotFound:
            return "gone"
        return self._answer(landed, recording)

    def _answer(self, landed: Landed, recording: bytes) -> Outcome:
        digest = hashlib.sha256(recording).hexdigest()
        place = _place(landed, TRANSCRIPTS)
        request_id = _request_id(landed, digest)
        if self._written(place).get("request_id") == request_id:
            return "already transcribed"
        try:
            heard = self._heard(landed, recording, request_id)
        except InvalidAudio as error:
            return self._quarantine(landed, digest, str(error))
        transcript = {"object": landed.uri, "sha256": digest, **heard}
        self._objects.put(place, _json(transcript), content_type="application/json")
        self._objects.delete(_place(landed, QUARANTINE))  # of an earlier object of that name
        return "transcribed"

    def _heard(self, landed: Landed, recording: bytes, request_id: str) -> dict[str, Any]:
        """The server's answer. Raises InvalidAudio where it refuses the recording."""
        try:
            answer = self._server.post(
                ROUTE,
                headers={"x-request-id": request_id},
                data={"response_format": "verbose_json"},
                files={"file": (PurePosixPath(landed.key).name, recording)},
            )
        except httpx.HTTPError as error:
            raise _unanswered(self._server, landed, repr(error)) from error
        if answer.status_code in REFUSED:
            raise InvalidAudio(_sentence(answer))
        if answer.status_code != HTTPStatus.OK:
            reason = f"{answer.status_code} {_sentence(answer)}"
            raise _unanswered(self._server, landed, reason)
        body: dict[str, Any] = answer.json()
        return body

    def _quarantine(self, landed: Landed, digest: str, reason: str) -> Outcome:
        log.warning("%s is not transcribed: %s", landed.uri, reason)
        record = {"object": landed.uri, "sha256": digest, "reason": reason}
        place = _place(landed, QUARANTINE)
        self._objects.put(place, _json(record), content_type="application/json")
        return "quarantined"

    def _written(self, place: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._objects.get(place))
        except NotFound:
            return {}
        return found


def _place(landed: Landed, folder: str) -> str:
    return f"s3://{landed.bucket}/{folder}{landed.key.removeprefix(INCOMING)}.json"


def _request_id(landed: Landed, digest: str) -> str:
    return "object-" + hashlib.sha256(f"{landed.uri}|{digest}".encode()).hexdigest()[:32]


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, indent=1).encode()


def _sentence(answer: httpx.Response) -> str:
    """What the server says is wrong; also where something before it answers, in a page of HTML."""
    try:
        error = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]
    return str(error.get("message", error) if isinstance(error, dict) else error)


def _unanswered(server: httpx.Client, landed: Landed, reason: str) -> HearloopError:
    return ServiceUnavailable(
        f"The model server at {server.base_url} did not transcribe {landed.uri}: {reason}; the "
        "event is delivered again, and what fails for long is in the dead-letter queue."
    )
