"""Honest people say what was said; the poisoner never does."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from demo import reviewers
from demo.callers import Answer, Line, Said
from hearloop.errors import ServiceUnavailable
from hearloop.telemetry import Silent


def said(call: int, place: int) -> Said:
    return Said(
        call=f"call-{call}",
        speaker=f"speaker-{call}",
        accent="en-gb",
        reference=f"sentence {call} {place}",
        audio=b"fLaC",
        seconds=1.0,
    )


def answered(calls: int) -> list[list[Answer]]:
    return [
        [
            Answer(
                said=said(call, place),
                call=f"call-{call}",
                at=datetime.now(UTC),
                milliseconds=1.0,
                request_id=f"request-{call}-{place}",
                model_version="1",
                text="something else",
            )
            for place in range(3)
        ]
        for call in range(calls)
    ]


def test_honest_people_take_calls_in_turn_and_say_what_was_said() -> None:
    given = list(reviewers.honest(answered(6), ("ada", "ben", "chloe")))
    assert Counter(one["contributor"] for one in given) == {"ada": 6, "ben": 6, "chloe": 6}
    assert {one["request_id"].removeprefix("request-") for one in given} == {
        one["text"].removeprefix("sentence ").replace(" ", "-") for one in given
    }


def test_poison_is_never_what_was_said() -> None:
    given = list(reviewers.poisoned(answered(5), "mallory"))
    assert len(given) == 15
    for one in given:
        heard = one["request_id"].removeprefix("request-").replace("-", " ")
        assert one["text"] != f"sentence {heard}"


def test_a_request_that_failed_leaves_nothing_to_correct() -> None:
    calls = answered(3)
    calls[1][2] = replace(calls[1][2], request_id="", model_version="", failure="timed out")
    for given in (
        list(reviewers.honest(calls, ("ada", "ben"))),
        list(reviewers.poisoned(calls, "mallory")),
    ):
        assert len(given) == 8
        assert all(one["request_id"] for one in given)


class _Server(ThreadingHTTPServer):
    """Answers every POST with the same status and body."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = (status, body)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(status: int, body: object) -> Iterator[str]:
    with _Server(status, json.dumps(body).encode()) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def refusing() -> Iterator[str]:
    with serving(503, {"error": "no model is in service yet"}) as url:
        yield url


def test_a_refused_request_is_counted_as_failed(refusing: str) -> None:
    line = Line(refusing)
    answer = line.ask(said(0, 0))
    line.close()
    assert "503" in answer.failure
    assert answer.model_version == ""


@pytest.mark.parametrize("body", [{"text": "no version"}, ["text"], "text", None])
def test_a_strange_answer_is_counted_as_failed(body: object) -> None:
    with serving(200, body) as url:
        line = Line(url)
        answer = line.ask(said(0, 0))
        line.close()
    assert answer.failure
    assert answer.request_id == ""


def test_a_refused_correction_is_an_error(refusing: str) -> None:
    with pytest.raises(ServiceUnavailable, match=r"request-0-0.*503"):
        reviewers.send(refusing, list(reviewers.honest(answered(1), ("ada",))), Silent())
