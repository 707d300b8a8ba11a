import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hearloop import cli, composition
from hearloop.config import Settings
from hearloop.datasets import write_snapshot
from hearloop.errors import (
    ConfigurationError,
    InvalidInput,
    NotFound,
    ServiceUnavailable,
    VersionRefused,
)
from hearloop.lineage import CorrectionRange, DatasetUse, Lineage
from hearloop.rollout import Traffic
from hearloop.testing import InMemoryObjects

runner = CliRunner()


class FakeRegistry:
    def __init__(self, champion: str | None) -> None:
        self._champion = champion

    def champion(self) -> str | None:
        return self._champion

    def promote(self, version: str) -> None:
        self._champion = version

    def lineage(self, version: str) -> Lineage:
        if version not in "12":
            raise NotFound(f"There is no version {version}.")
        corrections = CorrectionRange(first=4, last=90, ids=("c5", "c6", "c7"))
        data = DatasetUse(
            context="corrections" if version == "2" else "train",
            snapshot=version * 64,
            uri="s3://bucket",
            utterances=250,
            seconds=600.0,
            corrections=corrections if version == "2" else None,
        )
        parent = self.lineage("1") if version == "2" else None
        return Lineage(version=version, bundle="b", run_id="r", datasets=(data,), parent=parent)


@pytest.fixture
def champion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composition, "registry", lambda _: FakeRegistry("2"))


@pytest.mark.usefixtures("champion")
def test_lineage_lists_every_snapshot_and_correction_back_to_the_first_model() -> None:
    lines = runner.invoke(cli.app, ["lineage", "champion"]).stdout.splitlines()
    assert " ".join(lines[1].split()) == "2 corrections 222222222222 250 10.0 3 of 4 to 90"
    assert " ".join(lines[2].split()) == "1 train 111111111111 250 10.0 -"


@pytest.mark.usefixtures("champion")
def test_lineage_as_json_names_each_correction() -> None:
    body = json.loads(runner.invoke(cli.app, ["lineage", "2", "--json"]).stdout)
    assert body["datasets"][0]["corrections"]["ids"] == ["c5", "c6", "c7"]
    assert body["parent"]["datasets"][0]["snapshot"] == "1" * 64


@dataclass
class FakeRouter:
    traffic: Traffic
    refuses: bool

    def write(self, traffic: Traffic) -> None:
        if self.refuses:
            raise VersionRefused("Version 1 failed its checks and takes no traffic.")
        self.traffic = traffic


@pytest.mark.parametrize("refuses", [False, True])
def test_promote_moves_the_traffic_and_then_the_champion(
    monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    registry, router = FakeRegistry("2"), FakeRouter(Traffic(stable="2"), refuses)
    monkeypatch.setattr(composition, "registry", lambda _: registry)
    monkeypatch.setattr(composition, "router", lambda _: router)
    done = runner.invoke(cli.app, ["promote", "1"])
    there = "2" if refuses else "1"
    assert (registry.champion(), router.traffic) == (there, Traffic(stable=there))
    assert isinstance(done.exception, VersionRefused) if refuses else "was 2" in done.stdout


def test_without_a_champion_there_is_no_lineage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composition, "registry", lambda _: FakeRegistry(None))
    result = runner.invoke(cli.app, ["lineage", "champion"])
    assert isinstance(result.exception, ConfigurationError)


@pytest.mark.usefixtures("champion")
def test_what_went_wrong_is_one_line_and_a_status_of_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["hearloop", "lineage", "99"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "There is no version 99.\n"


def test_a_stack_that_does_not_run_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    result = runner.invoke(cli.app, ["status"])
    assert result.exit_code == 1
    assert [line.split()[1] for line in result.stdout.splitlines()[1:]] == ["stopped"] * 5
    assert runner.invoke(cli.app, ["down"]).exit_code == 0


class _Server(BaseHTTPRequestHandler):
    received: bytes = b""
    status = 200

    def do_POST(self) -> None:
        type(self).received = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.end_headers()
        answer = {
            "text": "hello", "confidence": 0.93, "model_version": "2", "request_id": "r-1",
            "duration": 0.5, "type": "transcript.text.done",
        }  # fmt: skip
        event = f"data: {json.dumps(answer)}\n\n"
        self.wfile.write(event.encode() if self.status == 200 else b"why")

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Server]]:
    class Handler(_Server):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever).start()
        monkeypatch.setenv("HEARLOOP_SERVING_URL", f"http://127.0.0.1:{listening.server_port}")
        yield Handler
        listening.shutdown()


def test_a_file_is_transcribed_by_the_server(server: type[_Server], tmp_path: Path) -> None:
    recording = tmp_path / "call.wav"
    recording.write_bytes(b"RIFF of speech")
    result = runner.invoke(cli.app, ["transcribe", str(recording)])
    assert result.stdout == "hello\n"
    assert "confidence 0.93, version 2, request r-1" in result.stderr
    assert b"RIFF of speech" in server.received


@pytest.mark.parametrize(("status", "error"), [(400, InvalidInput), (503, ServiceUnavailable)])
def test_a_refusal_says_why(
    server: type[_Server], tmp_path: Path, status: int, error: type[Exception]
) -> None:
    server.status = status
    recording = tmp_path / "call.wav"
    recording.write_bytes(b"")
    result = runner.invoke(cli.app, ["transcribe", str(recording)])
    assert isinstance(result.exception, error)
    assert f"({status}): why" in str(result.exception)


@pytest.mark.parametrize("arguments", [[], ["--microphone", "call.wav"]])
def test_recordings_or_the_microphone(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "call.wav").touch()
    result = runner.invoke(cli.app, ["transcribe", *arguments])
    assert isinstance(result.exception, InvalidInput)


def test_a_server_that_is_away_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARLOOP_SERVING_URL", "http://127.0.0.1:9")
    recording = tmp_path / "call.wav"
    recording.write_bytes(b"")
    result = runner.invoke(cli.app, ["transcribe", str(recording)])
    assert isinstance(result.exception, ServiceUnavailable)
    assert "http://127.0.0.1:9" in str(result.exception)


def test_a_snapshot_is_written_for_another_toolkit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = InMemoryObjects()
    monkeypatch.setattr(composition, "objects", lambda settings: objects)
    bucket = Settings().buckets.snapshots
    snapshot = write_snapshot([], [], recipe=[], objects=objects, bucket=bucket)
    written = runner.invoke(cli.app, ["export", snapshot.digest, "nemo", str(tmp_path)])
    assert written.exit_code == 0, written.output
    assert "0 utterances" in written.output
    refused = runner.invoke(cli.app, ["export", snapshot.digest, "mp3", str(tmp_path)])
    assert isinstance(refused.exception, ConfigurationError)
    assert "kaldi, lhotse, nemo, shar" in str(refused.exception)
