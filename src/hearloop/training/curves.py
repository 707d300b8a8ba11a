"""What a person sees of a training: a progress bar, curves in a file, curves in MLflow.

The file has every step. MLflow gets the curves, and what some utterances sound like, from a thread
of its own, so that neither a slow nor a dead tracking server holds up a step; what it did not take
is counted and reported.
"""

import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hearloop.hidden_imports import load_mlflow
from hearloop.training.loop import Step
from hearloop.training.samples import Sample, picture, table, usual

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["REPORT", "Bar", "Curves", "progress_bar"]

log = logging.getLogger(__name__)

REPORT: Final = "adaptation.md"
"""What was learnt and forgotten, in the work folder and among the run's artifacts."""
_EVERY: Final = 10
"""Steps between two points of a curve in MLflow; each is the mean of those in between."""
_WAIT_SECONDS: Final = 10.0
"""How long the end of a training waits for MLflow to take the last points."""
_LINE_SECONDS: Final = 10.0
"""Time between two lines of progress where no bar can be drawn."""

_Send = Callable[["MlflowClient", str], object]
"""Sends something to a run."""


class Curves:
    """Curves of one training, as JSON lines and, with a run id, in MLflow."""

    def __init__(self, path: Path, *, run_id: str | None, tracking_uri: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("a", buffering=1, encoding="utf-8")
        self._steps: list[Step] = []
        self._mlflow = _MlflowThread(run_id, tracking_uri) if run_id else None

    def step(self, step: Step) -> None:
        """Add a step."""
        values = {"loss": step.loss, "learning_rate": step.learning_rate}
        self._write(step.number, values)
        self._steps.append(step)
        if len(self._steps) == _EVERY:
            self._send(step.number, self._means())
            self._steps.clear()

    def dev(self, number: int, word_error_rate: float) -> None:
        """Add the WER on the development set after `number` steps."""
        self._write(number, {"dev_wer": word_error_rate})
        self._send(number, {"dev_wer": word_error_rate})

    def samples(self, number: int, samples: Sequence[Sample], symbols: Sequence[str]) -> None:
        """Add what some utterances sound like after `number` steps; for MLflow alone."""
        if not self._mlflow:
            return
        name = f"samples/step-{number:06d}"
        self._mlflow.send(lambda client, run: client.log_text(run, table(samples), f"{name}.md"))

        def draw(client: "MlflowClient", run: str) -> None:
            client.log_figure(run, picture(usual(samples), symbols), f"{name}.png")

        self._mlflow.send(draw)

    def outcome(self, report: str) -> None:
        """Add what was learnt and forgotten, in Markdown."""
        self._path.with_name(REPORT).write_text(report, encoding="utf-8")
        if self._mlflow:
            self._mlflow.send(lambda client, run: client.log_text(run, report, REPORT))

    def close(self) -> int:
        """Wait a little for MLflow; returns how many points it did not take."""
        self._file.close()
        return self._mlflow.close() if self._mlflow else 0

    def _means(self) -> dict[str, float]:
        seconds = sum(step.seconds for step in self._steps)
        return {
            "loss": sum(step.loss for step in self._steps) / len(self._steps),
            "learning_rate": self._steps[-1].learning_rate,
            "audio_seconds_per_second": sum(s.audio_seconds for s in self._steps) / seconds,
        }

    def _write(self, number: int, values: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": number, **values}) + "\n")

    def _send(self, number: int, values: dict[str, float]) -> None:
        if not self._mlflow:
            return

        def log_metrics(client: "MlflowClient", run: str) -> None:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            points = [Metric(f"train/{name}", one, now, number) for name, one in values.items()]
            client.log_batch(run, metrics=points)

        self._mlflow.send(log_metrics, len(values))


class _MlflowThread:
    """Sends points to MLflow in the background."""

    def __init__(self, run_id: str, tracking_uri: str) -> None:
        self._run_id, self._tracking_uri = run_id, tracking_uri
        self._waiting: queue.SimpleQueue[tuple[int, _Send] | None] = queue.SimpleQueue()
        self._open = 0
        # MLflow's own default is minutes of retries; the next points come in seconds.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        load_mlflow()  # not in the thread: what the training imports meanwhile is its own
        self._thread = threading.Thread(target=self._work, name="mlflow-curves", daemon=True)
        self._thread.start()

    def send(self, send: _Send, points: int = 1) -> None:
        """Queue what holds so many points of curves; a text or a picture counts as one."""
        self._open += points
        self._waiting.put((points, send))

    def close(self) -> int:
        self._waiting.put(None)
        self._thread.join(_WAIT_SECONDS)
        if self._open:
            log.warning(
                "MLflow did not take %d points of the training curves of run %s; "
                "curves.jsonl has them.",
                self._open,
                self._run_id,
            )
        return self._open

    def _work(self) -> None:
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=self._tracking_uri)
        reported = False
        for points, send in iter(self._waiting.get, None):
            try:
                send(client, self._run_id)
                self._open -= points
            except Exception as error:  # whatever MLflow raises, training goes on
                if not reported:
                    log.warning("MLflow at %s refuses curves: %s", self._tracking_uri, error)
                reported = True


class Bar:
    """Progress of a training in steps."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done_here = 0
        self._audio = 0.0
        self._began = time.monotonic()

    def step(self, step: Step) -> None:
        """Show that a step is done."""
        self._done_here += 1
        self._audio += step.audio_seconds
        elapsed = time.monotonic() - self._began
        self._show(step, self._audio / elapsed, elapsed / self._done_here)

    def _show(self, step: Step, speed: float, seconds_per_step: float) -> None:
        raise NotImplementedError


class _Lines(Bar):
    """A log line now and then."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self._spoke = self._began

    def _show(self, step: Step, speed: float, seconds_per_step: float) -> None:
        if time.monotonic() - self._spoke < _LINE_SECONDS and step.number < self._total:
            return
        self._spoke = time.monotonic()
        left = (self._total - step.number) * seconds_per_step
        text = "training: step %d of %d, loss %.3f, %.0f audio s/s, %.0f s left"
        log.info(text, step.number, self._total, step.loss, speed, left)


class _Drawn(Bar):
    """A bar on a terminal."""

    def __init__(self, total: int, bars: Progress) -> None:
        super().__init__(total)
        self._bars = bars
        self._task = bars.add_task("training", total=total, loss=0.0, speed=0.0)

    def _show(self, step: Step, speed: float, seconds_per_step: float) -> None:
        self._bars.update(self._task, completed=step.number, loss=step.loss, speed=speed)


@contextmanager
def progress_bar(total: int, stream: TextIO | None = None) -> Iterator[Bar]:
    """A bar on a terminal, log lines elsewhere; `stream` is standard error unless given."""
    console = Console(file=stream or sys.stderr)
    if not console.is_terminal:
        yield _Lines(total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TextColumn("{task.fields[speed]:.0f} audio s/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield _Drawn(total, bars)
