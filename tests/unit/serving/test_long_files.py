"""Files of minutes and hours over HTTP, with the openai package and without."""

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator, Generator
from dataclasses import replace
from typing import BinaryIO

import numpy as np
import pytest
from openai import APIError, AsyncOpenAI

from hearloop.audio import Samples, encode_flac
from hearloop.config import Settings
from hearloop.errors import ServiceUnavailable
from hearloop.features import SAMPLE_RATE
from hearloop.streaming import long
from hearloop.testing import InMemoryObjects
from serving import long_files as module
from serving.caller import Caller
from serving.decoder import LONG
from serving.long_files import LongFiles
from serving.phrases import Phrases
from serving.request_log import RequestLog
from serving.settings import TenantSettings
from serving.transcriber import Answer, Utterance
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


class Held:
    """Audio that stops half-way until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), threading.Event()
        self._loop = asyncio.get_running_loop()

    def blocks(self, file: BinaryIO) -> Generator[Samples]:
        whole = recording()
        yield whole[: len(whole) // 2]
        self._loop.call_soon_threadsafe(self.begun.set)
        self.go_on.wait(10)
        yield whole[len(whole) // 2 :]


def long_files(server: Server, held: Held) -> LongFiles:
    log = RequestLog(Settings(), InMemoryObjects(), server.events)
    return LongFiles(server.versions, log, held.blocks, Phrases(lambda _: TenantSettings()))


def asked(files: LongFiles) -> asyncio.Task[Answer]:
    found: list[Utterance] = []
    caller = Caller(request_id="r", consent=False)
    return asyncio.create_task(files.transcribe(io.BytesIO(), caller, (), found.append))


async def test_a_server_that_stops_finishes_what_is_done_in_time(serving: Server) -> None:
    held = Held()
    files = long_files(serving, held)
    under_way = asked(files)
    await held.begun.wait()
    stopping = asyncio.create_task(files.drain(10.0))
    await asyncio.sleep(0)
    with pytest.raises(ServiceUnavailable, match="send it again"):
        await asked(files)
    held.go_on.set()
    assert (await under_way).transcript.text
    await stopping


async def test_a_server_that_stops_refuses_what_is_not_done(serving: Server) -> None:
    held = Held()
    files = long_files(serving, held)
    under_way, waiting = asked(files), asked(files)
    await held.begun.wait()
    await files.drain(0.0)
    for one in (under_way, waiting):
        with pytest.raises(ServiceUnavailable, match="send it again"):
            await one
    held.go_on.set()
