"""The model of calls follows the traffic; one that fails its checks changes nothing."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hearloop.config import Settings
from hearloop.hotwords import Hotword
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from hearloop.storage.rollouts import SqlTrafficStore
from hearloop.storage.tables import engine
from hearloop.streaming import Final, StreamOptions
from serving.caller import Caller
from serving.calls.engines import Engines
from serving.calls.models import Models
from serving.loading import Loader
from serving.phrases import Phrases
from serving.settings import TenantSettings
from tests.bundles import noise
from tests.unit.serving.assembled import Shelf


@pytest.fixture
def store(tmp_path: Path) -> SqlTrafficStore:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/hearloop.db")
    return SqlTrafficStore(engine(settings), settings.model_name)


@pytest.fixture
def models(shelf: Shelf, store: SqlTrafficStore, tmp_path: Path) -> Models:
    return Models(Loader(lambda: shelf, tmp_path, "fp32"), store, look_s=0.02)


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def version(models: Models) -> str:
    return models.current()[0]


def until(condition: object) -> None:
    assert callable(condition)
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("waited 10 s")


def test_it_waits_for_the_first_and_follows_the_traffic(
    models: Models, shelf: Shelf, store: SqlTrafficStore, stop: threading.Event,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    threading.Timer(0.1, setattr, (shelf, "crown", "1")).start()
    assert models.follow(stop)
    assert version(models) == "1"
    store.write(Traffic(stable="2", canary="1", canary_percent=10), {})
    until(lambda: version(models) == "2")
    store.write(Traffic(stable="99"), {})
    until(lambda: "Version 99 failed its checks" in caplog.text)
    shelf.away = True
    store.write(Traffic(stable="1"), {})
    until(lambda: "registry is away" in caplog.text)
    assert version(models) == "2"


def test_it_stops_waiting_when_told(models: Models, stop: threading.Event) -> None:
    threading.Timer(0.1, stop.set).start()
    assert not models.follow(stop)


PRODUCT = "baab"
"""A name that the models would not write by themselves."""

ONE_CHUNK = StreamOptions(endpointing=None)


def phrases(tenant: str) -> TenantSettings:
    return TenantSettings(hotwords={PRODUCT.upper(): Hotword.boost} if tenant == "acme" else {})


class Fixed:
    """Models whose version the test says."""

    def __init__(self, recognisers: dict[str, Recogniser]) -> None:
        self.recognisers, self.version = recognisers, "1"

    def current(self) -> tuple[str, Recogniser]:
        return self.version, self.recognisers[self.version]


def test_live_calls_stay_on_their_version_and_none_is_refused_for_load(
    recognisers: dict[str, Recogniser],
) -> None:
    models = Fixed(recognisers)
    engines = Engines(models, Phrases(phrases))  # type: ignore[arg-type]
    caller = Caller(request_id="r")
    heard: list[object] = []
    first = engines.open(heard.append, caller, ONE_CHUNK)
    old = first.stream
    next(iter(engines._engines.values()))._cost_s = 10.0  # as on a machine that is far too busy
    old.accept(noise(1.0))
    models.version = "2"
    second = engines.open(lambda _: None, caller, StreamOptions())
    engines.retire()
    assert (first.version, second.version, len(engines._engines)) == ("1", "2", 2)
    old.finish()
    until(lambda: any(isinstance(one, Final) for one in heard))
    (final,) = [one for one in heard if isinstance(one, Final)]
    assert final.transcript.text == recognisers["1"].transcribe(noise(1.0)).text
    until(lambda: engines.retire() or len(engines._engines) == 1)
    second.stream.finish()
    engines.close()


def test_a_tenants_phrases_are_expected_and_named(recognisers: dict[str, Recogniser]) -> None:
    engines = Engines(Fixed(recognisers), Phrases(phrases))  # type: ignore[arg-type]
    texts, names = {}, {}
    for tenant in ("acme", "other"):
        heard: list[object] = []
        opened = engines.open(heard.append, Caller(request_id="r", tenant=tenant), ONE_CHUNK)
        opened.stream.accept(noise(2.0))
        opened.stream.finish()
        until(lambda heard=heard: any(isinstance(one, Final) for one in heard))
        (final,) = [one for one in heard if isinstance(one, Final)]
        texts[tenant], names[tenant] = final.transcript.text.split(), opened.phrases
    engines.close()
    assert PRODUCT in texts["acme"]
    assert PRODUCT not in texts["other"]
    assert names["acme"]
    assert not names["other"]
