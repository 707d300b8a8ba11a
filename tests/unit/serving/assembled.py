"""KServe's application with our routes, in this process, over real tiny recognisers."""

import base64
import mmap
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI
from kserve import ModelRepository
from kserve.protocol.rest.server import RESTServer

from hearloop.audio import Audio, Samples, decode, decode_long, encode_flac
from hearloop.config import Settings
from hearloop.errors import NotFound, ServiceUnavailable
from hearloop.phrase_store import PhraseStore
from hearloop.storage.rollouts import SqlTrafficStore
from hearloop.storage.tables import engine
from hearloop.testing import InMemoryEvents, InMemoryObjects
from serving.access import Gate
from serving.decoder import LONG
from serving.feedback import desk, learning
from serving.live import Live
from serving.loading import Loader
from serving.long_files import LongFiles
from serving.model import FixedRepository, SpeechDataPlane, SpeechModel
from serving.phrases import Phrases
from serving.request_log import RequestLog
from serving.server import Doors, mount, weighing
from serving.settings import ServerSettings
from serving.traffic import TrafficControl
from serving.transcriber import Transcriber
from serving.versions import Versions
from tests.bundles import noise

V1 = "/v1/models/hearloop:predict"
V2 = "/v2/models/hearloop/infer"
FILE = "/openai/v1/audio/transcriptions"
TRAFFIC = "/rollout/v1/traffic"
LARGEST = 2_000_000
LARGEST_FILE = 4_000_000

FLAC = encode_flac(noise(1.0))


ASKS_NOBODY = ServerSettings(_env_file=None)  # type: ignore[call-arg]  # of pydantic-settings
OPEN = Gate(ASKS_NOBODY)


class Shelf:
    """A model registry of bundles in folders."""

    def __init__(self, bundles: dict[str, Path]) -> None:
        self.bundles = bundles
        self.crown: str | None = None
        self.away = False

    def champion(self) -> str | None:
        return self.crown

    def fetch(self, version: str, cache: Path) -> Path:
        if self.away:
            raise ServiceUnavailable("The registry is away.")
        if version not in self.bundles:
            raise NotFound(f"No version {version} is registered.")
        return self.bundles[version]


@contextmanager
def served(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of the application, which is served on a free port meanwhile."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # connections wait here until the server takes them
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=address, timeout=30.0) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@dataclass
class Server:
    app: FastAPI
    client: httpx.Client
    versions: Versions
    control: TrafficControl
    shelf: Shelf
    events: InMemoryEvents
    live: Live


@contextmanager
def assembled(
    folder: Path,
    shelf: Shelf,
    own: ServerSettings = ASKS_NOBODY,
    phrase_store: PhraseStore | None = None,
    decode: Callable[[bytes], Audio] = decode,
) -> Iterator[Server]:
    """A server without a model, its database and cache in `folder`."""
    settings = Settings(database_url=f"sqlite:///{folder}/hearloop.db", cache=folder)
    events = InMemoryEvents()
    log = RequestLog(settings, InMemoryObjects(), events)
    versions = Versions()
    gate = Gate(own)
    phrases = Phrases(own.tenant, phrase_store)
    transcriber = Transcriber(versions, log, 2, decode, phrases)
    live = Live(versions, log, most_streams=4)
    store = SqlTrafficStore(engine(settings), settings.model_name)
    control = TrafficControl(versions, Loader(lambda: shelf, folder, "fp32"), store)
    doors = Doors(
        versions=versions,
        control=control,
        transcriber=transcriber,
        long_files=LongFiles(versions, log, in_blocks, phrases),
        live=live,
        phrases=phrases,
        desk=desk(settings, weighing(versions)),
        learn=learning(phrase_store),
        gate=gate,
    )
    app = FastAPI()
    mount(app, settings, doors, LARGEST, LARGEST_FILE)
    models = ModelRepository()
    models.update(SpeechModel(settings.model_name, versions, transcriber, control.restore, gate))
    plane = SpeechDataPlane(models, versions)
    rest = RESTServer("kserve.model_server:app", plane, FixedRepository(models), 0)
    rest._register_endpoints(app)
    rest._add_exception_handlers(app)
    with served(app) as client:
        yield Server(app, client, versions, control, shelf, events, live)
    log.close(10.0)


def in_blocks(file: BinaryIO) -> Generator[Samples]:
    """Decodes a long file in this process."""
    with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as body:
        yield from decode_long(body, LONG)


def heard() -> Samples:
    """The samples as they are after FLAC."""
    return np.rint(noise(1.0) * 32768).clip(-32768, 32767).astype(np.float32) / np.float32(32768)


def encoded(body: bytes = FLAC) -> str:
    return base64.b64encode(body).decode()


def instance(body: bytes = FLAC) -> dict[str, Any]:
    return {"audio": {"b64": encoded(body)}}


def tensor(**fields: Any) -> dict[str, Any]:
    audio = {"name": "audio", "datatype": "BYTES", "shape": [1], "data": [encoded()]}
    return {"inputs": [{**audio, **fields}]}


def refusal(answer: httpx.Response) -> str:
    """The one sentence of an error."""
    sentence = error = answer.json()["error"]
    assert answer.json() == {"error": error}
    if answer.url.path.startswith("/openai/"):
        assert error.keys() == {"message", "type", "param", "code"}
        sentence = error["message"]
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return str(sentence)
