"""What every answer has, whichever route, protocol and mistake it comes from."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import websockets

from serving.settings import Grant, ServerSettings
from tests.unit.serving.assembled import (
    FILE,
    FLAC,
    LARGEST_FILE,
    TRAFFIC,
    V1,
    Server,
    Shelf,
    assembled,
    instance,
    refusal,
)
from tests.unit.serving.test_access import flat

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated"),
]

LIVE = "/openai/v1/realtime?intent=transcription"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose one token opens everything."""
    everything = Grant(tenant="t", roles=frozenset({"transcribe", "correct", "review", "admin"}))
    own = ServerSettings(_env_file=None, tokens={"key": everything})  # type: ignore[call-arg]
    with assembled(tmp_path_factory.mktemp("guarded"), Shelf({}), own) as server:
        yield server


def named(answer: httpx.Response | websockets.Response, request_id: str) -> None:
    """An answer says which request it is of, and that nobody is to keep it or to guess its type."""
    assert answer.headers["x-request-id"] == request_id
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] in ("no-store", "no-cache")


@pytest.mark.parametrize("token", ["key", "wrong"])
def test_every_route_names_the_request_in_its_answer(guarded: Server, token: str) -> None:
    asked: list[str] = []
    for number, (method, path) in enumerate(flat(guarded.app.routes)):
        if method == "WEBSOCKET":
            continue
        where = path.replace("{request_id}/audio", "{request_id}/claim")  # storage is not here
        headers = {"authorization": f"Bearer {token}", "x-request-id": f"r-{number}"}
        answer = guarded.client.request(
            method, where.replace("{", "").replace("}", ""), headers=headers
        )
        named(answer, f"r-{number}")
        asked.append(f"{method} {path}")
    assert len(asked) > 35


async def handshake(server: Server, path: str = LIVE, **headers: str) -> websockets.Response:
    """The answer to the upgrade, accepted or not."""
    url = str(server.client.base_url).replace("http", "ws", 1) + path
    try:
        async with websockets.connect(url, additional_headers=headers) as connection:
            assert connection.response
            return connection.response
    except websockets.InvalidStatus as refused:
        return refused.response


async def test_live_streams_are_named_too(serving: Server, guarded: Server) -> None:
    accepted = await handshake(serving, **{"x-request-id": "live"})
    assert accepted.status_code == 101
    named(accepted, "live")
    token = {"authorization": "Bearer key"}
    for server, path, more, code in (
        (guarded, LIVE, {}, 401),
        (guarded, LIVE, token, 503),
        (guarded, "/openai/v1/realtime", token, 400),
        (guarded, "/nowhere", token, 404),
    ):
        refused = await handshake(server, path, **{"x-request-id": "live", **more})
        assert refused.status_code == code
        named(refused, "live")


def test_what_no_route_has_seen_is_named(serving: Server) -> None:
    client, headers = serving.client, {"x-request-id": "mine"}
    for answer in (
        client.get("/nowhere", headers=headers),
        client.delete(TRAFFIC, headers=headers),
        client.post(V1, content=b"{", headers=headers),
        client.post(FILE, files={"file": bytes(LARGEST_FILE + 1)}, headers=headers),
        client.post(FILE, files={"file": FLAC}, headers=headers),
        client.post(V1, json={"instances": [instance()]}, headers=headers),
    ):
        named(answer, "mine")
    one, other = (client.get("/nowhere", headers={"x-request-id": "no name"}) for _ in range(2))
    assert one.headers["x-request-id"] != other.headers["x-request-id"]
    assert " " not in one.headers["x-request-id"]


def test_a_failure_of_ours_is_named_and_tells_nothing_of_its_reason(
    serving: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(serving.versions, "reading", fail)
    answer = serving.client.get(TRAFFIC, headers={"x-request-id": "bad-luck"})
    assert answer.status_code == 500
    named(answer, "bad-luck")
    assert refusal(answer) == "The server failed; report request bad-luck."
    assert "Request bad-luck failed" in caplog.text


async def test_without_tokens_only_our_own_page_may_call(serving: Server, guarded: Server) -> None:
    ours = str(serving.client.base_url).rstrip("/")
    form: dict[str, Any] = {"files": {"file": FLAC}}
    for origin, code in ((ours, 200), ("https://elsewhere.example", 403), ("null", 403)):
        answer = serving.client.post(FILE, headers={"origin": origin}, **form)
        assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (
            code,
            False,
        )
        live = await handshake(serving, origin=origin)
        assert live.status_code == (101 if code == 200 else 403)
    token = {"authorization": "Bearer key", "origin": "https://elsewhere.example"}
    assert (await handshake(guarded, **token)).status_code == 503  # admitted: there is no model
