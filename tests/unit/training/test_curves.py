import io
import json
import logging
import socket
import threading
from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import Image

from hearloop.training.curves import REPORT, Curves, progress_bar
from hearloop.training.loop import Step
from hearloop.training.samples import Sample


def step(number: int) -> Step:
    return Step(
        number=number,
        loss=1.0 / number,
        learning_rate=0.001,
        audio_seconds=24.0,
        seconds=0.5,
        stop=False,
    )


SYMBOLS = ("п", "р", "и", "в", "е", "т", " ")


def heard(text: str, said: str, seconds: int = 3) -> Sample:
    """Features and probabilities of some seconds."""
    rng = np.random.default_rng(0)
    return Sample(
        text=said,
        ids=tuple(SYMBOLS.index(character) + 1 for character in said),
        heard=text,
        features=rng.normal(-6, 2, (100 * seconds, 80)).astype(np.float32),
        probabilities=rng.dirichlet(np.ones(8), 25 * seconds).astype(np.float32),
        spans=tuple((4 * place, 4 * place + 2) for place in range(len(said))),
    )


@pytest.fixture
def run(tmp_path: Path) -> tuple[str, str]:
    """A tracking store and a run in it."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("training", str(tmp_path / "artifacts"))
    return uri, client.create_run(experiment).info.run_id


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's use of SQLAlchemy
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # and its connections to SQLite
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_mlflow_gets_curves_samples_and_the_report(
    run: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hearloop.training.curves._WAIT_SECONDS", 240.0)  # the machine may be busy
    uri, run_id = run
    curves = Curves(tmp_path / "curves.jsonl", run_id=run_id, tracking_uri=uri)
    for number in range(1, 26):
        curves.step(step(number))
    curves.dev(20, 0.25)
    shortest, longest = heard("", "р", seconds=1), heard("ветер", "ветер", seconds=4)
    curves.samples(20, [shortest, heard("при вет", "привет"), longest], SYMBOLS)
    curves.outcome("learnt much\n")
    assert curves.close() == 0
    client = mlflow.MlflowClient(uri)
    shown = tmp_path / "artifacts" / run_id / "artifacts"
    assert "| привет | при вет |" in (shown / "samples/step-000020.md").read_text()
    with Image.open(shown / "samples/step-000020.png") as picture:
        assert picture.size == (1200, 550 + 6 * 12)  # that of median length, a row a character
        assert len(set(picture.convert("L").tobytes())) > 50  # something is drawn
    assert (shown / REPORT).read_text() == (tmp_path / REPORT).read_text() == "learnt much\n"
    losses = client.get_metric_history(run_id, "train/loss")
    assert [point.step for point in losses] == [10, 20]
    assert losses[1].value == pytest.approx(sum(1 / n for n in range(11, 21)) / 10)
    metrics = client.get_run(run_id).data.metrics
    assert metrics["train/audio_seconds_per_second"] == pytest.approx(48.0)
    assert metrics["train/dev_wer"] == 0.25
    assert metrics["train/learning_rate"] == 0.001


def test_mlflow_is_loaded_before_other_threads_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading: list[threading.Thread] = []
    monkeypatch.setattr(
        "hearloop.training.curves.load_mlflow", lambda: loading.append(threading.current_thread())
    )
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    Curves(tmp_path / "curves.jsonl", run_id="some", tracking_uri="http://127.0.0.1:9").close()
    assert loading == [threading.main_thread()]


def test_a_dead_server_is_reported_and_the_file_has_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
        curves = Curves(tmp_path / "curves.jsonl", run_id="run", tracking_uri=uri)
        for number in range(1, 12):
            curves.step(step(number))
        assert curves.close() == 3
    assert "curves.jsonl has them" in caplog.text
    lines = (tmp_path / "curves.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 12))


def test_without_a_terminal_progress_is_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with progress_bar(3, io.StringIO()) as bar:
        for number in (1, 2, 3):
            bar.step(step(number))
    (message,) = caplog.messages
    assert message.startswith("training: step 3 of 3, loss 0.333")
    assert "audio s/s, 0 s left" in message


def test_on_a_terminal_a_bar_shows_speed_and_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    with progress_bar(2, terminal) as bar:
        bar.step(step(1))
        bar.step(step(2))
    assert "loss 0.500" in terminal.getvalue()
    assert "audio s/s" in terminal.getvalue()
