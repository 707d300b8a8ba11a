import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hearloop.config import Settings
from hearloop.errors import Conflict
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from hearloop.storage.rollouts import SqlTrafficStore
from hearloop.storage.tables import engine
from serving.loading import Loader
from serving.traffic import TrafficControl
from serving.versions import Versions
from tests.unit.serving.assembled import (
    FILE,
    FLAC,
    TRAFFIC,
    Server,
    Shelf,
    refusal,
)

pytestmark = pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated")  # KServe uses it


def test_traffic_is_set_and_reported_with_its_evidence(
    server: Server, expected: dict[str, str]
) -> None:
    put = server.client.put(TRAFFIC, json={"stable": "1"})
    assert put.status_code == 200
    assert put.json()["weights"] == {"1": 100}
    body = {"stable": "1", "canary": "2", "canary_percent": 50}
    assert server.client.put(TRAFFIC, json=body).json()["weights"] == {"1": 50, "2": 50}
    for n in range(40):
        answer = server.client.post(
            FILE, files={"file": FLAC}, headers={"x-hearloop-call": f"call-{n}"}
        ).json()
        assert answer["text"] == expected[answer["model_version"]]
    report = server.client.get(TRAFFIC).json()
    assert report["traffic"] == body
    tallies = report["tallies"]
    assert tallies["1"]["requests"] + tallies["2"]["requests"] == 40
    assert tallies["2"]["calls"] == tallies["2"]["requests"] > 5
    assert 0 < tallies["2"]["p50_ms"] <= tallies["2"]["p95_ms"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"stable": "1", "canary": "2"},
        {"stable": "1", "canary": "2", "canary_percent": 101},
        {"stable": "1", "canary": "2", "canary_percent": 10.5},
        {"stable": "1", "canary_percent": 10},
        {"stable": "1", "canary": "1", "canary_percent": 10},
        {"stable": "1", "weight": 100},
    ],
)
def test_traffic_that_means_nothing_is_400(serving: Server, body: dict[str, Any]) -> None:
    answer = serving.client.put(TRAFFIC, json=body)
    assert answer.status_code == 400
    refusal(answer)
    assert serving.versions.traffic == Traffic(stable="1")


def test_a_damaged_or_unknown_version_is_refused_and_the_old_one_serves_on(
    serving: Server, tmp_path: Path, bundles: dict[str, Path]
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in bundles["2"].iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    weights = bytearray((damaged / "model.onnx").read_bytes())
    weights[len(weights) // 2] ^= 1
    (damaged / "model.onnx").write_bytes(weights)
    serving.shelf.bundles["damaged"] = damaged
    for version in ("damaged", "unknown"):
        body = {"stable": "1", "canary": version, "canary_percent": 10}
        answer = serving.client.put(TRAFFIC, json=body)
        assert answer.status_code == 422
        assert f"Version {version} failed its checks" in refusal(answer)
        assert serving.versions.traffic == Traffic(stable="1")
    assert serving.client.post(FILE, files={"file": FLAC}).status_code == 200


def test_after_a_restart_the_stored_traffic_is_in_force(server: Server, tmp_path: Path) -> None:
    body = {"stable": "1", "canary": "2", "canary_percent": 10}
    assert server.client.put(TRAFFIC, json={"stable": "1"}).status_code == 200
    assert server.client.put(TRAFFIC, json=body).status_code == 200
    again = restarted(tmp_path, server.shelf)
    assert again.traffic == Traffic(stable="1", canary="2", canary_percent=10)


def restarted(tmp_path: Path, shelf: Shelf, pinned: str = "") -> Versions:
    """The versions of a server that has just started over the same database."""
    versions = Versions()
    settings = Settings(database_url=f"sqlite:///{tmp_path}/hearloop.db")
    store = SqlTrafficStore(engine(settings), settings.model_name)

    async def start() -> None:
        await TrafficControl(versions, Loader(lambda: shelf, tmp_path), store, pinned).restore()

    asyncio.run(start())
    return versions


def test_a_pinned_server_serves_its_version_whatever_was_stored(
    server: Server, tmp_path: Path
) -> None:
    assert server.client.put(TRAFFIC, json={"stable": "1"}).status_code == 200
    assert restarted(tmp_path, server.shelf, pinned="2").traffic == Traffic(stable="2")
    assert restarted(tmp_path, server.shelf, pinned="unknown").traffic is None


def test_a_pinned_server_takes_no_other_traffic(server: Server, tmp_path: Path) -> None:
    control = TrafficControl(server.versions, Loader(lambda: server.shelf, tmp_path), Unused(), "2")
    with pytest.raises(Conflict, match="pinned to version 2"):
        asyncio.run(control.put(Traffic(stable="1")))


class Unused:
    """A store that nobody may ask."""

    def read(self) -> None:
        raise AssertionError

    def write(self, traffic: Traffic, bundles: Mapping[str, str]) -> None:
        raise AssertionError


def test_after_a_restart_a_canary_that_is_damaged_by_now_gets_nothing(
    server: Server, tmp_path: Path
) -> None:
    body = {"stable": "1", "canary": "2", "canary_percent": 10}
    assert server.client.put(TRAFFIC, json=body).status_code == 200
    del server.shelf.bundles["2"]
    assert restarted(tmp_path, server.shelf).traffic == Traffic(stable="1")


@pytest.mark.parametrize("damaged", [False, True])
def test_after_a_restart_the_cached_copy_serves_unless_it_is_damaged(
    server: Server, tmp_path: Path, bundles: dict[str, Path], damaged: bool
) -> None:
    assert server.client.put(TRAFFIC, json={"stable": "1"}).status_code == 200
    copy = tmp_path / Recogniser.load(bundles["1"]).bundle.digest
    shutil.copytree(bundles["1"], copy)
    if damaged:
        (copy / "model.onnx").write_bytes(b"")
    server.shelf.away = not damaged
    assert restarted(tmp_path, server.shelf).traffic == Traffic(stable="1")


def test_a_registry_that_is_away_leaves_the_traffic_as_it_is(serving: Server) -> None:
    serving.shelf.away = True
    answer = serving.client.put(TRAFFIC, json={"stable": "2"})
    assert answer.status_code == 503
    refusal(answer)
    assert serving.versions.traffic == Traffic(stable="1")


def test_without_stored_traffic_the_champion_serves(tmp_path: Path, shelf: Shelf) -> None:
    assert restarted(tmp_path, shelf).traffic is None
    shelf.crown = "2"
    assert restarted(tmp_path, shelf).traffic == Traffic(stable="2")
