"""Live streams in a real server process without Kafka, MLflow and object storage.

It starts from the traffic in its database and the bundle in its cache, as after a restart.
"""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import websockets
from openai import AsyncOpenAI

from hearloop import composition
from hearloop.bundle import verify
from hearloop.config import Settings
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from hearloop.stack import Ports
from tests.bundles import noise, write_random_bundle

pytestmark = pytest.mark.anyio

TOKEN = "a-token-of-the-test"
START_SECONDS = 60.0
COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"
SPEECH = np.clip(np.rint(noise(2.0) * 32768), -32768, 32767).astype("<i2")
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
    log: Path
    text: str
    """What its model makes of SPEECH."""

    @property
    def address(self) -> str:
        return self.url.replace("http", "ws") + "/openai/v1/realtime?intent=transcription"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    port = Ports.free().serving
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
            [sys.executable, "-m", "serving", f"--http_port={port}"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, process, log)
        heard = SPEECH.astype(np.float32) / 32768
        text = Recogniser.load(place, "int8").transcribe(heard).text
        yield Server(process, url, log, text)
    finally:
        process.kill()
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    headers = {"authorization": f"Bearer {TOKEN}"}
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            ready = httpx.get(f"{url}/v2/models/hearloop/ready", headers=headers, timeout=1)
            if ready.is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)


async def test_a_stream_is_heard_and_one_that_lives_when_the_server_is_told_to_stop_is_finished(
    server: Server,
) -> None:
    with pytest.raises(websockets.InvalidStatus):
        async with websockets.connect(server.address):
            pass
    client = AsyncOpenAI(api_key=TOKEN, base_url=f"{server.url}/openai/v1")
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        await connection.session.update(session=SESSION)  # type: ignore[arg-type]
        for commits in (True, False):
            body = SPEECH.tobytes()
            for at in range(0, len(body), 3_200):
                audio = base64.b64encode(body[at : at + 3_200]).decode()
                await connection.input_audio_buffer.append(audio=audio)
            if commits:
                await connection.input_audio_buffer.commit()
            else:
                await until(connection, DELTA)
                server.process.send_signal(signal.SIGTERM)
            completed = await until(connection, COMPLETED)
            assert completed.transcript == server.text
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await until(connection, "nothing")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    await client.close()
    assert await asyncio.to_thread(server.process.wait, 60) == 0, server.log.read_text()
    assert server.text not in server.log.read_text()


async def until(connection: object, kind: str) -> object:
    async with asyncio.timeout(20):
        while (event := await connection.recv()).type != kind:  # type: ignore[attr-defined]
            assert event.type != "error", event
        return event
