import json
from collections.abc import Callable

import httpx
import pytest

from hearloop.errors import ServiceUnavailable
from hearloop.testing import InMemoryObjects
from serving import transcription as route
from serving.functions.events import Landed
from serving.functions.transcription import LARGEST, ROUTE, Transcription

SPOKEN = b"RIFF somebody speaks"
LANDED = Landed(bucket="b", key="incoming/monday/call one.wav", size=len(SPOKEN))
TRANSCRIPT = "s3://b/transcripts/monday/call one.wav.json"
QUARANTINED = "s3://b/quarantine/monday/call one.wav.json"


class Server:
    """What the model server would answer; counts what it is asked."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.requests: list[httpx.Request] = []
        self._answer = answer

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url="http://model-server", transport=httpx.MockTransport(self._handle)
        )

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answer(request)


def hearing(request: httpx.Request) -> httpx.Response:
    heard = {"text": "good morning", "request_id": request.headers["x-request-id"]}
    return httpx.Response(200, json=heard)


def refusing(status: int) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(status, json={"error": f"It is {status}."})


@pytest.fixture
def objects() -> InMemoryObjects:
    stored = InMemoryObjects()
    stored.put(LANDED.uri, SPOKEN)
    return stored


def test_the_route_is_the_server_s() -> None:
    assert ROUTE == route.TRANSCRIPTION_ROUTE


def test_an_object_is_transcribed_once_however_often_it_is_told(objects: InMemoryObjects) -> None:
    server = Server(hearing)
    transcription = Transcription(objects, server.client())

    assert [transcription.of(LANDED) for _ in range(3)] == [
        "transcribed",
        "already transcribed",
        "already transcribed",
    ]
    (request,) = server.requests
    assert request.url.path == ROUTE
    assert SPOKEN in request.content
    written = json.loads(objects.get(TRANSCRIPT))
    assert written["text"] == "good morning"
    assert written["object"] == LANDED.uri
    assert written["request_id"] == request.headers["x-request-id"]


def test_new_content_under_the_same_name_is_transcribed_anew(objects: InMemoryObjects) -> None:
    server = Server(hearing)
    transcription = Transcription(objects, server.client())
    transcription.of(LANDED)
    before = json.loads(objects.get(TRANSCRIPT))
    objects.put(LANDED.uri, b"RIFF somebody else")

    assert transcription.of(LANDED) == "transcribed"
    assert json.loads(objects.get(TRANSCRIPT))["request_id"] != before["request_id"]


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_what_the_server_refuses_is_quarantined_with_its_reason(
    objects: InMemoryObjects, status: int
) -> None:
    transcription = Transcription(objects, Server(refusing(status)).client())

    assert transcription.of(LANDED) == "quarantined"
    assert json.loads(objects.get(QUARANTINED))["reason"] == f"It is {status}."
    assert objects.get(LANDED.uri) == SPOKEN
    assert not objects.exists(TRANSCRIPT)


def test_a_good_object_takes_the_place_of_a_quarantined_one(objects: InMemoryObjects) -> None:
    Transcription(objects, Server(refusing(422)).client()).of(LANDED)
    objects.put(LANDED.uri, b"RIFF said again")

    assert Transcription(objects, Server(hearing).client()).of(LANDED) == "transcribed"
    assert not objects.exists(QUARANTINED)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_what_may_go_better_is_tried_again(objects: InMemoryObjects, status: int) -> None:
    transcription = Transcription(objects, Server(refusing(status)).client())

    with pytest.raises(ServiceUnavailable, match=rf"{status} It is {status}\."):
        transcription.of(LANDED)
    assert not objects.exists(QUARANTINED)


def test_a_page_of_html_is_quoted(objects: InMemoryObjects) -> None:
    page = Server(lambda request: httpx.Response(502, text="<h1>Bad Gateway</h1>"))

    with pytest.raises(ServiceUnavailable, match="502 <h1>Bad Gateway"):
        Transcription(objects, page.client()).of(LANDED)


def test_a_gigantic_object_is_quarantined_unread(objects: InMemoryObjects) -> None:
    huge = Landed(bucket="b", key="incoming/huge.wav", size=LARGEST + 1)

    assert Transcription(objects, Server(hearing).client()).of(huge) == "quarantined"
    reason = json.loads(objects.get("s3://b/quarantine/huge.wav.json"))["reason"]
    assert str(LARGEST) in reason


def test_what_is_gone_or_lies_elsewhere_is_left_alone(objects: InMemoryObjects) -> None:
    server = Server(hearing)
    transcription = Transcription(objects, server.client())

    assert transcription.of(Landed(bucket="b", key="incoming/deleted.wav", size=1)) == "gone"
    for key in ("transcripts/a.wav.json", "incoming/folder/", "audio/x.flac"):
        assert transcription.of(Landed(bucket="b", key=key, size=1)) == "not ours"
    assert server.requests == []
