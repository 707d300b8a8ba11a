import socket
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse

from hearloop.errors import InvalidInput, ServiceUnavailable, VersionRefused
from hearloop.rollout import Reading, Tally, Traffic
from hearloop.rollout.http import TRAFFIC_ROUTE, HttpRouter
from tests.unit.serving.assembled import served


class Answers:
    """A server that answers what it is told to, and remembers what it was sent."""

    def __init__(self) -> None:
        self.status = 200
        self.body: Any = {}
        self.sent: Any = None


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def router(answers: Answers) -> Iterator[HttpRouter]:
    app = FastAPI()

    @app.get(TRAFFIC_ROUTE, response_model=None)
    def read() -> JSONResponse | HTMLResponse:
        if isinstance(answers.body, str):
            return HTMLResponse(answers.body, status_code=answers.status)
        return JSONResponse(answers.body, status_code=answers.status)

    @app.put(TRAFFIC_ROUTE, response_model=None)
    def write(body: dict[str, Any]) -> JSONResponse | HTMLResponse:
        answers.sent = body
        return read()

    with served(app) as client:
        yield HttpRouter(f"{client.base_url}/")


def test_a_report_becomes_a_reading(router: HttpRouter, answers: Answers) -> None:
    answers.body = {
        "traffic": {"stable": "1", "canary": "2", "canary_percent": 10},
        "weights": {"1": 90, "2": 10},
        "epoch": "e",
        "tallies": {"2": {"requests": 3, "calls": 2, "failures": 1, "failed_calls": 1}},
    }
    assert router.read() == Reading(
        traffic=Traffic(stable="1", canary="2", canary_percent=10),
        epoch="e",
        tallies={"2": Tally(requests=3, calls=2, failures=1, failed_calls=1)},
    )


def test_traffic_is_sent_whole(router: HttpRouter, answers: Answers) -> None:
    router.write(Traffic(stable="1", canary="2", canary_percent=10))
    assert answers.sent == {"stable": "1", "canary": "2", "canary_percent": 10}
    router.write(Traffic(stable="2"))
    assert answers.sent == {"stable": "2", "canary": None, "canary_percent": 0}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (422, {"error": "Version 2 is damaged."}, VersionRefused),
        (409, {"error": "Another change is under way."}, VersionRefused),
        (400, {"error": "canary_percent is 200."}, InvalidInput),
        (503, {"error": "The registry is away."}, ServiceUnavailable),
        (502, "<h1>Bad Gateway</h1>", ServiceUnavailable),
    ],
)
def test_refusals_keep_their_sentence(
    router: HttpRouter, answers: Answers, status: int, body: Any, error: type[Exception]
) -> None:
    answers.status, answers.body = status, body
    said = body if isinstance(body, str) else body["error"]
    with pytest.raises(error) as raised:
        router.write(Traffic(stable="2"))
    assert said in str(raised.value)


@pytest.mark.parametrize("body", ["<h1>Welcome</h1>", {}, {"traffic": {"stable": 7}}])
def test_another_kind_of_server_is_told_apart(
    router: HttpRouter, answers: Answers, body: Any
) -> None:
    answers.body = body
    with pytest.raises(ServiceUnavailable, match="no traffic report"):
        router.read()


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(ServiceUnavailable, match=url):
        HttpRouter(url).read()
