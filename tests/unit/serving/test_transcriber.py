from typing import Any

import pytest

from hearloop.audio import Samples
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from hearloop.tokenizer import Tokenizer
from serving import transcriber as transcriber_module
from tests.unit.serving.assembled import FILE, FLAC, Server, refusal

pytestmark = pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated")  # KServe uses it


class Broken(Recogniser):
    """A recogniser that passed its checks and fails on callers."""

    def __init__(self) -> None:
        """Nothing is loaded but the letters."""
        self.tokenizer = Tokenizer()

    def transcribe(self, samples: Samples, **expecting: Any) -> Any:
        raise RuntimeError("out of memory in node 7")


def test_where_the_canary_fails_the_stable_version_answers_and_the_failure_counts(
    server: Server, recognisers: dict[str, Recogniser], expected: dict[str, str]
) -> None:
    traffic = Traffic(stable="1", canary="9", canary_percent=50)
    server.versions.swap(traffic, {"1": recognisers["1"], "9": Broken()})
    for n in range(20):
        answer = server.client.post(
            FILE, files={"file": FLAC}, headers={"x-hearloop-call": f"call-{n}"}
        ).json()
        assert (answer["text"], answer["model_version"]) == (expected["1"], "1")
    tally = server.versions.reading().tallies["9"]
    assert tally.failures == tally.failed_calls == tally.requests > 3


def test_where_the_stable_version_fails_it_says_so(server: Server) -> None:
    server.versions.swap(Traffic(stable="9"), {"9": Broken()})
    answer = server.client.post(FILE, files={"file": FLAC}, headers={"x-request-id": "r"})
    assert answer.status_code == 500
    assert "request r" in refusal(answer)
    assert "node 7" not in answer.text
    assert server.versions.reading().tallies["9"].failures == 1


def test_more_waiting_than_the_server_can_answer_is_503(
    serving: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcriber_module, "MOST_WAITING", 0)
    answer = serving.client.post(FILE, files={"file": FLAC})
    assert answer.status_code == 503
    assert "try again" in refusal(answer)
