"""Our client against our server's routes, with a tiny recogniser behind them."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from hearloop import cli, microphone
from hearloop.audio import encode_flac
from hearloop.client import Client
from hearloop.config import Settings
from hearloop.corpora.espeak import Voice, speak
from hearloop.errors import ConfigurationError, InvalidInput, NotFound, ServiceUnavailable
from hearloop.features import SAMPLE_RATE, Samples
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from tests.bundles import write_random_bundle
from tests.unit.serving.assembled import Server, Shelf, assembled, heard

BLOCK = SAMPLE_RATE // 10


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return Recogniser.load(write_random_bundle(tmp_path_factory.mktemp("bundle"), seed=1))


@pytest.fixture
def server(tmp_path: Path, recogniser: Recogniser) -> Iterator[Server]:
    with assembled(tmp_path, Shelf({})) as server:
        server.versions.swap(Traffic(stable="1"), {"1": recogniser})
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    return Client(str(server.client.base_url))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "call.flac"
    path.write_bytes(encode_flac(heard()))
    return path


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Two sentences with a pause after each."""
    voice = Voice(accent="en-us", variant="m3", rate=150, pitch=45, pitch_range=50)
    pause = np.zeros(SAMPLE_RATE, np.float32)
    said = speak(voice, ["transfer twenty pounds to anna", "pay the gas bill on monday"])
    return np.concatenate([part for one in said for part in (0.5 * one, pause)])


def blocks(samples: Samples) -> Iterator[Samples]:
    yield from (samples[at : at + BLOCK] for at in range(0, len(samples), BLOCK))


def test_a_recording_comes_back_with_words_and_how_much_was_sent(
    client: Client, recording: Path, recogniser: Recogniser
) -> None:
    sent: list[int] = []
    answer = client.transcribe(recording, on_sent=sent.append)
    assert answer.text == recogniser.transcribe(heard()).text
    assert [word.text for word in answer.words] == answer.text.split()
    assert (answer.model_version, answer.seconds) == ("1", pytest.approx(1.0))
    assert sent[-1] == recording.stat().st_size


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory, speech: Samples) -> Path:
    """Some minutes of the sentences."""
    path = tmp_path_factory.mktemp("long") / "meeting.ogg"
    soundfile.write(path, np.tile(speech, 20), SAMPLE_RATE, format="OGG", subtype="OPUS")
    return path


def test_a_long_recording_comes_back_piece_by_piece_and_each_can_be_corrected(
    client: Client, long_recording: Path
) -> None:
    heard_s: list[float] = []
    answer = client.transcribe(long_recording, on_heard=heard_s.append)
    assert answer.seconds > 100
    assert len(heard_s) == len(answer.utterances) > 20
    assert heard_s == sorted(heard_s)
    assert " ".join(one.text for one in answer.utterances) == answer.text
    assert len({one.request_id for one in answer.utterances}) == len(answer.utterances)


def test_the_terminal_prints_files_of_any_length(
    server: Server, recording: Path, long_recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARLOOP_SERVING_URL", str(server.client.base_url))
    result = CliRunner().invoke(cli.app, ["transcribe", str(recording), str(long_recording)])
    assert result.exit_code == 0, result.exception
    client = Client.of(Settings())
    texts = [client.transcribe(one).text for one in (recording, long_recording)]
    assert result.stdout.splitlines() == texts


def test_speech_comes_back_while_it_is_sent(client: Client, speech: Samples) -> None:
    said = list(client.stream(blocks(speech)))
    final = [one for one in said if one.final]
    assert len(final) >= 2
    assert any(not one.final for one in said)
    assert all(one.request_id for one in final)
    starts = [word.start_s for one in final for word in one.words]
    assert starts == sorted(starts)
    assert starts[-1] < len(speech) / SAMPLE_RATE


def test_silence_is_no_speech(client: Client) -> None:
    assert list(client.stream([np.zeros(SAMPLE_RATE, np.float32)])) == []
    assert list(client.stream([])) == []


def test_a_source_that_fails_is_named(client: Client) -> None:
    def broken() -> Iterator[Samples]:
        yield np.zeros(BLOCK, np.float32)
        raise ConfigurationError("The microphone was pulled out.")

    with pytest.raises(ConfigurationError, match="pulled out"):
        list(client.stream(broken()))


def test_refusals_are_errors_with_the_servers_sentence(client: Client, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF, but no sound")
    with pytest.raises(InvalidInput, match="refused"):
        client.transcribe(broken)


def test_without_a_server_it_says_what_to_do() -> None:
    away = Client("http://127.0.0.1:9")
    for call in (lambda: list(away.stream([])), lambda: away.correct("r", "a", contributor="b")):
        with pytest.raises(ServiceUnavailable, match="make up"):
            call()


def test_a_request_that_was_never_answered_cannot_be_corrected(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hearloop.client.RECORD_SECONDS", 0.2)
    refused = (NotFound, ServiceUnavailable)  # the audio bucket of this test's server is away
    with pytest.raises(refused):
        client.correct("nobody", "pay the bill", contributor="ada")


def test_the_terminal_prints_what_the_microphone_heard(
    server: Server, speech: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def played(stop: threading.Event) -> Iterator[Samples]:
        yield from blocks(speech)

    monkeypatch.setenv("HEARLOOP_SERVING_URL", str(server.client.base_url))
    monkeypatch.setattr(microphone, "blocks", played)
    result = CliRunner().invoke(cli.app, ["transcribe", "--microphone"])
    assert result.exit_code == 0, result.exception
    whole = [one.text for one in Client.of(Settings()).stream(blocks(speech)) if one.final]
    assert result.stdout.splitlines() == whole
