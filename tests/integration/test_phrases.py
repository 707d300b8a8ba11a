"""Phrases from Feast's own feature server, asked over HTTP as the model server asks it."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from hearloop.feature_store import define_phrases
from hearloop.hotwords import Hotword
from hearloop.phrase_store import SPEAKER_BOOST, PhraseStore
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from serving import phrases as module
from tests.bundles import write_random_bundle
from tests.unit.serving.assembled import FILE, FLAC, Shelf, assembled, heard

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def listening(app: Any) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def feast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhraseStore]:
    """A feature server over an online store of its own."""
    from feast.feature_server import get_app

    home = tmp_path_factory.mktemp("feast")
    configuration = home / "feature_store.yaml"
    configuration.write_text(
        json.dumps(
            {
                "project": "hearloop",
                "provider": "local",
                "registry": str(home / "registry.db"),
                "online_store": {"type": "sqlite", "path": str(home / "online.db")},
                "offline_store": {"type": "dask"},
                "entity_key_serialization_version": 3,
            }
        )
    )
    define_phrases(configuration)
    with listening(get_app(define_phrases(configuration))) as url:
        yield PhraseStore(url)


async def test_a_tenants_phrases_and_a_speakers_history_come_back(feast: PhraseStore) -> None:
    store = PhraseStore(feast._url)
    assert await store.read("acme", "anna") == {}
    store.put_tenant("acme", {"flexi saver": 4.0, "bonus fund": 3.0})
    store.learn("acme", "anna", ["worthington"])
    store.learn("acme", "anna", ["tower", "worthington"])
    tenants = {"flexi saver": 4.0, "bonus fund": 3.0}
    theirs = dict.fromkeys(("tower", "worthington"), SPEAKER_BOOST)
    assert await store.read("acme", "anna") == tenants | theirs
    assert await store.read("acme", "bob") == tenants
    assert await store.read("other", "anna") == {}
    store.forget("acme", "anna")
    assert await store.read("acme", "anna") == tenants


def test_the_server_listens_for_them(
    feast: PhraseStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEADLINE_S", 10.0)  # for a machine that is busy with other tests
    recogniser = Recogniser.load(write_random_bundle(tmp_path / "bundle", seed=1))
    feast.put_tenant("", {"abab": 3.0})
    with assembled(tmp_path, Shelf({}), phrase_store=PhraseStore(feast._url)) as server:
        server.versions.swap(Traffic(stable="1"), {"1": recogniser})
        headers = {"x-hearloop-speaker": "anna"}
        answer = server.client.post(FILE, files={"file": FLAC}, headers=headers).json()
    expected = [Hotword(phrase="abab", boost=3.0)]
    assert answer["text"] == recogniser.transcribe(heard(), hotwords=expected).text
    assert answer["text"] != recogniser.transcribe(heard()).text
