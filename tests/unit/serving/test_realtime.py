"""The realtime route, as the openai package and a plain WebSocket client see it."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
import websockets
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from prometheus_client import REGISTRY

from hearloop.audio import Samples
from hearloop.config import Settings
from hearloop.graph import Graph
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from serving import live as live_module
from serving.pcm import Pcm, Reader
from serving.settings import Grant, ServerSettings
from tests.bundles import noise
from tests.unit.serving.assembled import Server, Shelf, assembled

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated"),
]

SPEECH = noise(2.0)
PIECE = 1_600
"""Samples of a message: 100 ms."""

COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"
MANUAL = {
    "audio": {"input": {"turn_detection": None, "format": {"type": "audio/pcm", "rate": 16_000}}}
}


def pcm16(samples: Samples) -> bytes:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()


@asynccontextmanager
async def connected(server: Server, **update: Any) -> AsyncIterator[AsyncRealtimeConnection]:
    """The openai package's client in a transcription session."""
    client = AsyncOpenAI(api_key="any", base_url=f"{server.client.base_url}/openai/v1")
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        first = await connection.recv()
        assert first.type == "session.created"
        if update:
            await connection.session.update(session={"type": "transcription", **update})  # type: ignore[typeddict-item]
            assert (await connection.recv()).type == "session.updated"
        yield connection
    await client.close()


async def say(connection: AsyncRealtimeConnection, audio: bytes, piece: int = 2 * PIECE) -> None:
    for at in range(0, len(audio), piece):
        encoded = base64.b64encode(audio[at : at + piece]).decode()
        await connection.input_audio_buffer.append(audio=encoded)


async def until(connection: AsyncRealtimeConnection, kind: str) -> list[Any]:
    """Events up to the first of a kind."""
    found: list[Any] = []
    async with asyncio.timeout(20):
        while not found or found[-1].type != kind:
            found.append(await connection.recv())
            assert found[-1].type != "error", found[-1]
    return found


def expected(recogniser: Recogniser, samples: Samples) -> str:
    return recogniser.transcribe(samples).text


async def test_deltas_grow_into_the_completed_text_of_the_whole_recording(
    serving: Server, recognisers: dict[str, Recogniser]
) -> None:
    async with connected(serving, **MANUAL) as connection:
        await say(connection, pcm16(SPEECH))
        await connection.input_audio_buffer.commit()
        events = await until(connection, COMPLETED)
    *before, completed = events
    deltas = [event.delta for event in before if event.type == DELTA]
    assert len(deltas) > 1
    assert "".join(deltas) == completed.transcript
    heard = np.frombuffer(pcm16(SPEECH), "<i2").astype(np.float32) / 32768
    assert completed.transcript == expected(recognisers["1"], heard)
    assert {event.item_id for event in events if hasattr(event, "item_id")} == {completed.item_id}
    assert [event.type for event in before[-2:]] == [
        "input_audio_buffer.committed",
        "conversation.item.added",
    ]
    assert completed.model_version == "1"
    assert completed.usage.seconds == pytest.approx(2.0)
    assert " ".join(word["word"] for word in completed.words) == completed.transcript


async def test_each_utterance_is_an_item_of_its_own_and_is_logged(serving: Server) -> None:
    async with connected(serving, **MANUAL) as connection:
        items = []
        for _ in range(2):
            await say(connection, pcm16(SPEECH))
            await connection.input_audio_buffer.commit()
            items.append((await until(connection, COMPLETED))[-1])
    assert items[0].item_id != items[1].item_id
    assert items[0].request_id != items[1].request_id
    assert items[1].words[0]["start"] >= 2.0
    reader = serving.events.reader("test", [Settings().kafka.transcriptions_topic])
    logged: list[Any] = []
    while len(logged) < 2:
        logged += [event.value for event in await asyncio.to_thread(reader.poll, 1.0)]
    assert [one["request_id"] for one in logged] == [one.request_id for one in items]
    assert [one["text"] for one in logged] == [one.transcript for one in items]
    assert len({one["call"] for one in logged}) == 1


async def test_the_server_finds_where_speech_begins_and_ends(serving: Server) -> None:
    voice = 0.3 * np.sign(np.sin(2 * np.pi * 130 * np.arange(24_000) / 16_000))
    swelling = (voice * (1 + np.sin(2 * np.pi * 4 * np.arange(24_000) / 16_000)) / 2).astype(
        np.float32
    )
    silence = np.zeros(48_000, np.float32)
    audio = {"input": {"format": {"type": "audio/pcm", "rate": 16_000}}}
    async with connected(serving, audio=audio) as connection:
        await say(connection, pcm16(np.concatenate([swelling, silence])))
        events = await until(connection, COMPLETED)
    kinds = [event.type for event in events if event.type != DELTA]
    assert kinds == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        COMPLETED,
    ]
    started, stopped = events[0], next(one for one in events if "stopped" in one.type)
    assert 0 <= started.audio_start_ms < stopped.audio_end_ms <= 4_500


@pytest.mark.parametrize(
    ("form", "old"),
    [
        ({"type": "audio/pcm", "rate": 24_000}, "pcm16"),
        ({"type": "audio/pcmu"}, "g711_ulaw"),
        ({"type": "audio/pcma"}, "g711_alaw"),
    ],
    ids=["24 kHz", "mu-law", "A-law"],
)
async def test_every_format_is_heard_and_the_older_names_mean_the_same(
    serving: Server, form: dict[str, Any], old: str
) -> None:
    if form["type"] == "audio/pcm":
        audio = pcm16(soxr.resample(SPEECH, 16_000, 24_000))
    else:
        audio = np.random.default_rng(0).integers(0, 256, 16_000, np.uint8).tobytes()
    source = {"format": form, "turn_detection": None}
    async with connected(serving, audio={"input": source}) as connection:
        await say(connection, audio)
        await connection.input_audio_buffer.commit()
        completed = (await until(connection, COMPLETED))[-1]
        assert completed.transcript
        assert completed.usage.seconds == pytest.approx(2.0, abs=0.02)
    async with websockets.connect(address(serving)) as socket:
        await socket.recv()
        body = {"input_audio_format": old, "turn_detection": None}
        await socket.send(json.dumps({"type": "transcription_session.update", "session": body}))
        updated = json.loads(await socket.recv())
        assert updated["type"] == "transcription_session.updated"
        assert updated["session"]["audio"]["input"]["format"] == form
        await socket.send(audio)  # a binary message is audio too
        await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        while (event := json.loads(await socket.recv()))["type"] != COMPLETED:
            pass
        assert event["transcript"] == completed.transcript


def address(server: Server, query: str = "intent=transcription") -> str:
    base = str(server.client.base_url).replace("http", "ws")
    return f"{base}/openai/v1/realtime?{query}"


def test_g711_has_the_values_of_the_standard() -> None:
    """ITU-T G.711: the ends and the middle of both laws."""
    mu, a = Reader(Pcm(encoding="audio/pcmu")), Reader(Pcm(encoding="audio/pcma"))
    assert mu._table is not None
    assert a._table is not None
    assert [round(float(mu._table[code]) * 32768) for code in (0x00, 0x80, 0x7F, 0xFF)] == [
        -32124, 32124, 0, 0,
    ]  # fmt: skip
    assert [round(float(a._table[code]) * 32768) for code in (0x2A, 0xAA, 0x55, 0xD5)] == [
        -32256, 32256, -8, 8,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("no json", "no JSON"),
        ("[1]", "no JSON object"),
        ({"type": "response.create"}, "means nothing"),
        ({"type": "input_audio_buffer.append"}, "has no audio"),
        ({"type": "input_audio_buffer.append", "audio": "§"}, "no base64"),
        ({"type": "input_audio_buffer.append", "audio": "AAA="[:2] + "=="}, "whole 16-bit"),
        ({"type": "input_audio_buffer.commit"}, "commit after 100 ms"),
        ({"type": "session.update", "session": []}, "no object"),
        ({"type": "session.update", "session": {"type": "realtime"}}, "transcribes"),
        (
            {"type": "session.update", "session": {"audio": {"input": {"format": {"rate": 7}}}}},
            "rate",
        ),
        ({"type": "session.update", "session": {"include": ["x"]}}, "cannot be included"),
        (
            {"type": "session.update", "session": {"turn_detection": {"silence_duration_ms": -1}}},
            "200 to 5000",
        ),
        (
            {"type": "session.update", "session": {"input_audio_transcription": {"model": "x"}}},
            "not served",
        ),
    ],
)
async def test_what_is_wrong_is_answered_in_a_sentence_and_the_session_goes_on(
    serving: Server, message: Any, sentence: str
) -> None:
    async with websockets.connect(address(serving)) as socket:
        await socket.recv()
        await socket.send(
            message if isinstance(message, str) else json.dumps({**message, "event_id": "e1"})
        )
        event = json.loads(await socket.recv())
        assert event["type"] == "error"
        assert sentence in event["error"]["message"]
        assert event["error"]["message"].endswith(".")
        if not isinstance(message, str):
            assert event["error"]["event_id"] == "e1"
        await socket.send(json.dumps({"type": "input_audio_buffer.clear"}))
        assert json.loads(await socket.recv())["type"] == "input_audio_buffer.cleared"


def metric(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


MOVING = (
    "hearloop_time_to_first_word_seconds_count",
    "hearloop_partial_latency_seconds_count",
    "hearloop_final_latency_seconds_count",
    "hearloop_real_time_factor_count",
    "hearloop_final_words_total",
)


async def test_a_stream_moves_the_metrics(serving: Server) -> None:
    before = {name: metric(name) for name in MOVING}
    revised = metric("hearloop_revised_words_total")
    async with connected(serving, **MANUAL) as connection:
        assert metric("hearloop_live_streams") == 1.0
        await say(connection, pcm16(SPEECH))
        await connection.input_audio_buffer.commit()
        events = await until(connection, COMPLETED)
    said = len(events[-1].transcript.split())
    for name, value in before.items():
        assert metric(name) > value, name
    assert metric("hearloop_final_words_total") == before["hearloop_final_words_total"] + said
    shown = sum(1 for event in events if getattr(event, "revised", None))
    assert metric("hearloop_revised_words_total") >= revised + min(shown, 1)
    assert metric("hearloop_live_chunks_waiting") == 0.0


async def test_chunks_that_wait_are_told(serving: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(serving, **MANUAL):
        monkeypatch.setattr(live_module.Conversation, "waiting_s", 0.5)
        assert metric("hearloop_live_chunks_waiting") == 3.0


async def test_cleared_audio_is_forgotten(serving: Server) -> None:
    async with connected(serving, **MANUAL) as connection:
        await say(connection, pcm16(SPEECH))
        await connection.input_audio_buffer.clear()
        await until(connection, "input_audio_buffer.cleared")
        await say(connection, pcm16(np.zeros(8_000, np.float32)))
        await connection.input_audio_buffer.commit()
        completed = (await until(connection, COMPLETED))[-1]
    assert completed.usage.seconds == pytest.approx(0.5)


async def test_what_was_heard_is_told_to_those_who_ask(serving: Server) -> None:
    session = {**MANUAL, "include": ["hearloop.heard", "hearloop.words"]}
    async with connected(serving, **session) as connection:
        await say(connection, pcm16(SPEECH))
        await connection.input_audio_buffer.commit()
        events = await until(connection, COMPLETED)
    heard = [event.heard_s for event in events if event.type == "hearloop.heard"]
    assert heard == sorted(heard)
    assert heard[-1] == pytest.approx(2.0)
    shown = [event for event in events if event.type == DELTA]
    assert {"word", "start", "end", "confidence"} == set(shown[-1].words[0])


async def refused(url: str, **headers: str) -> websockets.Response:
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with websockets.connect(url, additional_headers=headers):
            pass
    return caught.value.response


async def status(url: str) -> int:
    try:
        async with websockets.connect(url) as socket:
            return 101 if socket.response is None else socket.response.status_code
    except websockets.InvalidStatus as refusal:
        return refusal.response.status_code


def sentence(response: websockets.Response) -> str:
    assert response.body is not None
    return str(json.loads(response.body)["error"]["message"])


async def test_a_stream_too_many_is_refused_before_it_begins(serving: Server) -> None:
    held = [await websockets.connect(address(serving)) for _ in range(4)]
    response = await refused(address(serving))
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert "4 live streams" in sentence(response)
    for socket in held:
        await socket.close()


@pytest.mark.parametrize(("seconds", "answered"), [(0.9, 503), (2.0, 101)])
async def test_late_results_refuse_new_streams_unless_a_recording_is_sent(
    serving: Server, monkeypatch: pytest.MonkeyPatch, seconds: float, answered: int
) -> None:
    run = Graph.run

    def slow(*arguments: Any) -> Any:
        time.sleep(2 * live_module.LATE_S)
        return run(*arguments)

    monkeypatch.setattr(Graph, "run", slow)
    async with connected(serving, **MANUAL, include=["hearloop.heard"]) as connection:
        await say(connection, pcm16(np.resize(SPEECH, int(seconds * 16_000))))
        await until(connection, "hearloop.heard")
        assert await status(address(serving)) == answered


async def test_without_a_model_or_an_intent_there_is_no_stream(
    server: Server, recognisers: dict[str, Recogniser]
) -> None:
    response = await refused(address(server))
    assert response.status_code == 503
    assert sentence(response).startswith("No model")
    server.versions.swap(Traffic(stable="1"), recognisers)
    assert (await refused(address(server, "intent=x"))).status_code == 400
    assert (await refused(address(server, "intent=transcription&model=x"))).status_code == 400


async def test_a_swap_leaves_streams_on_their_version(
    serving: Server, recognisers: dict[str, Recogniser]
) -> None:
    async with connected(serving, **MANUAL) as old:
        await say(old, pcm16(SPEECH[:16_000]))
        serving.versions.swap(Traffic(stable="2"), recognisers)
        async with connected(serving, **MANUAL) as new:
            await say(new, pcm16(SPEECH))
            await new.input_audio_buffer.commit()
            assert (await until(new, COMPLETED))[-1].model_version == "2"
        await say(old, pcm16(SPEECH[16_000:]))
        await old.input_audio_buffer.commit()
        completed = (await until(old, COMPLETED))[-1]
    assert completed.model_version == "1"
    heard = np.frombuffer(pcm16(SPEECH), "<i2").astype(np.float32) / 32768
    assert completed.transcript == expected(recognisers["1"], heard)


async def test_a_server_that_stops_lets_streams_have_their_last_words(
    serving: Server, recognisers: dict[str, Recogniser]
) -> None:
    async with connected(serving, **MANUAL) as connection:
        await say(connection, pcm16(SPEECH))
        await until(connection, DELTA)
        stopping = asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(serving.live.drain(0.0), serving.live._loop)
        )
        completed = (await until(connection, COMPLETED))[-1]
        await stopping
        heard = np.frombuffer(pcm16(SPEECH), "<i2").astype(np.float32) / 32768
        assert completed.transcript == expected(recognisers["1"], heard)
    assert (await refused(address(serving))).status_code == 503


async def test_a_browser_connects_with_a_short_lived_token(
    tmp_path: Path, shelf: Shelf, recognisers: dict[str, Recogniser]
) -> None:
    grant = Grant(tenant="acme", roles=frozenset({"transcribe"}))
    own = ServerSettings(_env_file=None, tokens={"long-lived": grant})  # type: ignore[call-arg]
    with assembled(tmp_path, shelf, own) as server:
        server.versions.swap(Traffic(stable="1"), recognisers)
        assert (await refused(address(server))).status_code == 401
        client = AsyncOpenAI(api_key="long-lived", base_url=f"{server.client.base_url}/openai/v1")
        secret = await client.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 60},
            session={"type": "transcription", "audio": {"input": {"turn_detection": None}}},
        )
        await client.close()
        assert secret.session.type == "transcription"
        protocols = ["realtime", f"openai-insecure-api-key.{secret.value}"]
        async with websockets.connect(address(server), subprotocols=protocols) as socket:  # type: ignore[arg-type]
            assert socket.subprotocol == "realtime"
            created = json.loads(await socket.recv())
            assert created["session"]["audio"]["input"]["turn_detection"] is None
