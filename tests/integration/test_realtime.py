"""Live streams in a real server process without Kafka, MLflow and object storage.

It starts from the traffic in its database and the bundle in its cache, as after a restart.
"""

import asyncio
import base64
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import soundfile
import websockets
from kserve.protocol.grpc.grpc_predict_v2_pb2 import InferTensorContents, ModelInferRequest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from hearloop import composition
from hearloop.bundle import verify
from hearloop.config import Settings
from hearloop.hotwords import Hotword
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from hearloop.stack import Ports
from tests.bundles import noise, write_random_bundle

pytestmark = pytest.mark.anyio

PRODUCT = "baab"
"""A name that the model would not write by itself."""
TOKEN = "a-token-of-the-test"
AUTHORISED = {"authorization": f"Bearer {TOKEN}"}
START_SECONDS = 60.0
COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"


def soundless(seconds: int) -> bytes:
    """A WAV file of mu-law at 8 kHz."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(8_000 * seconds, np.int16), 8_000, format="WAV", subtype="ULAW")
    return file.getvalue()


SPEECH = np.clip(np.rint(noise(2.0) * 32768), -32768, 32767).astype("<i2")
HOURS = soundless(7_000)
"""A long file: what is decoded and looked at takes seconds, and nothing is said."""
LIES = struct.pack("<I", 2**31 - 1) + b"ab"
"""A tensor of bytes that says to be longer than it is."""
SESSION = {
    "type": "transcription",
    "audio": {"input": {"turn_detection": None, "format": {"type": "audio/pcm", "rate": 16_000}}},
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    url: str
    grpc: str
    log: Path
    text: str
    """What its model makes of SPEECH."""
    expecting: str
    """The same while it expects PRODUCT."""

    @property
    def address(self) -> str:
        return self.url.replace("http", "ws") + "/openai/v1/realtime?intent=transcription"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tmp_path, ports = tmp_path_factory.mktemp("serving"), Ports.free()
    port, grpc_port = ports.serving, ports.tracking
    nowhere = f"127.0.0.1:{Ports.free().events}"
    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/hearloop.db",
        cache=tmp_path / "cache",
        mlflow_tracking_uri=f"http://{nowhere}",
    )
    made = write_random_bundle(tmp_path / "bundle", 1)
    digest = verify(made).digest
    place = settings.cache / "models" / digest
    place.parent.mkdir(parents=True)
    made.rename(place)
    composition.traffic_store(settings).write(Traffic(stable="1"), {"1": digest})
    grant = {TOKEN: {"tenant": "home", "roles": ["transcribe"]}}
    environment = {
        **os.environ,
        **settings.to_environment(),
        "HEARLOOP_S3__ENDPOINT_URL": f"http://{nowhere}",
        "HEARLOOP_KAFKA__BOOTSTRAP_SERVERS": nowhere,
        "HEARLOOP_SERVER_TOKENS": json.dumps(grant),
        "HEARLOOP_SERVER_DRAIN_SECONDS": "0.5",
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving", f"--http_port={port}", f"--grpc_port={grpc_port}"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, process, log)
        heard = SPEECH.astype(np.float32) / 32768
        recogniser = Recogniser.load(place, "int8")
        expected = [Hotword(phrase=PRODUCT)]
        yield Server(
            process=process,
            url=url,
            grpc=f"127.0.0.1:{grpc_port}",
            log=log,
            text=recogniser.transcribe(heard).text,
            expecting=recogniser.transcribe(heard, hotwords=expected).text,
        )
    finally:
        process.kill()
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            ready = httpx.get(f"{url}/v2/models/hearloop/ready", headers=AUTHORISED, timeout=1)
            if ready.is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    base_url = f"{server.url}/openai/v1"
    async with AsyncOpenAI(api_key=TOKEN, base_url=base_url, max_retries=0) as made:
        yield made


async def say(connection: AsyncRealtimeConnection) -> None:
    body = SPEECH.tobytes()
    for at in range(0, len(body), 3_200):
        audio = base64.b64encode(body[at : at + 3_200]).decode()
        await connection.input_audio_buffer.append(audio=audio)


async def test_a_name_is_found_while_the_session_expects_it_and_only_then(
    server: Server, client: AsyncOpenAI
) -> None:
    heard = []
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        await connection.session.update(session=SESSION)  # type: ignore[arg-type]
        for keywords in ([], [PRODUCT.upper()], []):
            transcription = {"transcription": {"keywords": keywords}}
            await connection.session.update(
                session={"type": "transcription", "audio": {"input": transcription}}  # type: ignore[typeddict-item]
            )
            await say(connection)
            await connection.input_audio_buffer.commit()
            heard.append((await until(connection, COMPLETED)).transcript)
    assert heard == [server.text, server.expecting, server.text]
    recall = [PRODUCT in text.split() for text in heard]
    assert recall == [False, True, False]


async def test_grpc_refuses_what_it_cannot_read_in_a_sentence(server: Server) -> None:
    wrong = {
        "The shape of samples is [2, 3]; send": tensor("samples", [2, 3], "FP32", [0.0] * 6),
        "2 values where its shape [3] says 3.": tensor("samples", [3], "FP32", [0.0] * 2),
        "invalid content type": tensor("samples", [1], "NEW", []),  # KServe's own sentence
        "The input is INT64 'samples'; send": tensor("samples", [1], "INT64", [1]),
        "is no format that we know; send": tensor("audio", [1], "BYTES", [b"no sound"]),
        "The data of samples do not fit:": tensor("samples", [1], "FP32", None, raw=b"abc"),
        "The data of audio do not fit:": tensor("audio", [1], "BYTES", None, raw=LIES),
        "values that are not finite; record": tensor("samples", [1], "FP32", [float("nan")]),
        "33 utterances; send at most 32": tensor("audio", [33], "BYTES", [b""] * 33),
        "has 0 inputs; send one": ModelInferRequest(model_name="hearloop"),
    }
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        infer = GRPCInferenceServiceStub(channel).ModelInfer
        for said, request in wrong.items():
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await infer(request, metadata=list(AUTHORISED.items()))
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert said in (refused.value.details() or "")


async def test_what_lives_when_the_server_is_told_to_stop_is_finished_or_told_to_come_again(
    server: Server, client: AsyncOpenAI
) -> None:
    with pytest.raises(websockets.InvalidStatus):
        async with websockets.connect(server.address):
            pass
    unfinished = asyncio.create_task(sending(server))
    files = [asyncio.create_task(sent(server, stream)) for stream in ("false", "true")]
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        await connection.session.update(session=SESSION)  # type: ignore[arg-type]
        await say(connection)
        await until(connection, DELTA)
        await queued(server, len(files))
        server.process.send_signal(signal.SIGTERM)
        completed = await until(connection, COMPLETED)
        assert completed.transcript == server.text
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await until(connection, "nothing")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    for answer in await asyncio.gather(*files):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["message"].endswith("another one answers.")
    answered = await unfinished
    assert answered.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 1\r\n" in answered
    assert await asyncio.to_thread(server.process.wait, 60) == 0, server.log.read_text()
    assert server.text not in server.log.read_text()


async def sent(server: Server, stream: str) -> httpx.Response:
    """The answer to two hours of silence."""
    async with httpx.AsyncClient(headers=AUTHORISED, timeout=60.0) as client:
        return await client.post(
            f"{server.url}/openai/v1/audio/transcriptions",
            files={"file": HOURS},
            data={"stream": stream},
        )


async def sending(server: Server) -> bytes:
    """The head of the answer to a file that never comes to its end."""
    url = httpx.URL(server.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(
        f"POST /openai/v1/audio/transcriptions HTTP/1.1\r\nHost: {url.host}\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: 100000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n".encode()
    )
    try:
        return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


async def queued(server: Server, files: int) -> None:
    """Until so many files are being transcribed or wait for it."""
    async with asyncio.timeout(20), httpx.AsyncClient() as client:
        while (
            f"hearloop_queue_length {files}.0"
            not in (await client.get(f"{server.url}/metrics")).text
        ):
            await asyncio.sleep(0.05)


def tensor(
    name: str, shape: list[int], datatype: str, data: list[Any] | None, raw: bytes | None = None
) -> ModelInferRequest:
    """A request as it goes over the wire, with mistakes that KServe's own types would not make."""
    contents = {"FP32": "fp32_contents", "INT64": "int64_contents", "BYTES": "bytes_contents"}
    given = {contents[datatype]: data} if data and datatype in contents else {}
    one = ModelInferRequest.InferInputTensor(name=name, shape=shape, datatype=datatype)
    if given:
        one.contents.MergeFrom(InferTensorContents(**given))
    return ModelInferRequest(
        model_name="hearloop", inputs=[one], raw_input_contents=[] if raw is None else [raw]
    )


async def until(connection: object, kind: str) -> object:
    async with asyncio.timeout(20):
        while (event := await connection.recv()).type != kind:  # type: ignore[attr-defined]
            assert event.type != "error", event
        return event
