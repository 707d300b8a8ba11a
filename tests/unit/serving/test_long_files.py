"""Files of minutes and hours over HTTP, with the openai package and without."""

import json
import threading
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest
from openai import APIError, AsyncOpenAI

from hearloop.audio import Samples, encode_flac
from hearloop.config import Settings
from hearloop.features import SAMPLE_RATE
from hearloop.streaming import long
from serving import long_files as module
from serving.decoder import LONG
from tests.unit.serving import assembled
from tests.unit.serving.assembled import FILE, LARGEST_FILE, Server, refusal
from tests.unit.streaming.conftest import voice

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated"),
]

PAUSE = np.zeros(SAMPLE_RATE, np.float32)
UTTERANCES = 45


def recording() -> Samples:
    said = [voice(0.6, number % 5) for number in range(UTTERANCES)]
    return np.concatenate([PAUSE, *(part for one in said for part in (one, PAUSE))])


@pytest.fixture(scope="module")
def minutes() -> bytes:
    """More than a minute, encoded."""
    return encode_flac(recording())


@pytest.fixture
async def client(serving: Server) -> AsyncIterator[AsyncOpenAI]:
    base_url = f"{serving.client.base_url}/openai/v1"
    async with AsyncOpenAI(api_key="any", base_url=base_url, max_retries=0) as made:
        yield made


async def test_the_text_streams_while_it_is_recognised(client: AsyncOpenAI, minutes: bytes) -> None:
    file = ("meeting.flac", minutes)
    whole = await client.audio.transcriptions.create(
        file=file, model="hearloop", response_format="verbose_json"
    )
    assert whole.duration == pytest.approx(len(recording()) / SAMPLE_RATE)
    assert len(whole.utterances) > UTTERANCES // 2
    stream = await client.audio.transcriptions.create(file=file, model="hearloop", stream=True)
    events = [event async for event in stream]
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert len(deltas) == len(whole.utterances)
    assert "".join(deltas) == whole.text == events[-1].text
    assert events[-1].type == "transcript.text.done"


def test_each_utterance_is_logged_as_one_that_can_be_corrected(
    serving: Server, minutes: bytes
) -> None:
    headers = {"x-request-id": "meeting", "x-hearloop-call": "call-9"}
    answer = serving.client.post(FILE, files={"file": minutes}, headers=headers).json()
    reader = serving.events.reader("test", [Settings().kafka.transcriptions_topic])
    logged: list[dict[str, object]] = []
    while len(logged) < len(answer["utterances"]):
        logged += [dict(event.value) for event in reader.poll(10.0)]
    told = [(one["request_id"], one["text"]) for one in answer["utterances"]]
    assert [(one["request_id"], one["text"]) for one in logged] == told
    assert told[0][0] == "meeting-1"
    assert {one["call"] for one in logged} == {"call-9"}


def cut_off(minutes: bytes) -> bytes:
    return minutes[: len(minutes) * 9 // 10]


async def test_what_breaks_off_is_refused_in_a_sentence_also_amid_the_answer(
    serving: Server, client: AsyncOpenAI, minutes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long, "_GATHERED_S", 2.0)  # or else all of it is found at once
    whole = serving.client.post(FILE, files={"file": cut_off(minutes)})
    assert whole.status_code == 422
    refusal(whole)
    stream = await client.audio.transcriptions.create(
        file=("meeting.flac", cut_off(minutes)), model="hearloop", stream=True
    )
    assert (await anext(aiter(stream))).type == "transcript.text.delta"
    with pytest.raises(APIError, match="no sound flac"):
        [event async for event in stream]


def test_too_many_seconds_and_bytes_are_refused(
    serving: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembled, "LONG", replace(LONG, seconds=90.0))
    answer = serving.client.post(FILE, files={"file": encode_flac(np.tile(PAUSE, 91))})
    assert (answer.status_code, "90 s" in refusal(answer)) == (422, True)
    answer = serving.client.post(FILE, files={"file": bytes(LARGEST_FILE)})
    assert (answer.status_code, str(LARGEST_FILE) in refusal(answer)) == (413, True)
    monkeypatch.setattr(module, "MOST_WAITING", -1)
    answer = serving.client.post(FILE, files={"file": encode_flac(np.tile(PAUSE, 61))})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")


def test_who_leaves_ends_the_work(
    serving: Server, minutes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, found = threading.Event(), []

    def slow(self: module._Utterances, *segment: object) -> None:
        found.append(segment)
        left.wait(10)
        add(self, *segment)  # type: ignore[arg-type]

    add = module._Utterances.add
    monkeypatch.setattr(module._Utterances, "add", slow)
    form = {"stream": "true"}
    stream = serving.client.stream("POST", FILE, files={"file": minutes}, data=form, timeout=0.5)
    with pytest.raises(Exception, match="timed out"), stream:
        pass
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    left.set()
    short = serving.client.post(FILE, files={"file": minutes}, timeout=30)
    assert json.loads(short.content)["utterances"]
