"""The stages of the demo and how long each took."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from demo.report import Stage
from hearloop.errors import TrainingFailed

__all__ = ["FOLDER", "RUNS", "Stages", "run_pipeline", "summary_of_run"]

FOLDER = Path("runs/demo")
RUNS = FOLDER / "pipelines"
"""Where the demo's pipeline runs leave their logs and summaries."""


class Stages:
    """Times stages against one clock and says a line when each ends."""

    def __init__(self, console: Console) -> None:
        self.done: list[Stage] = []
        self.failed = ""
        """The stage that an error ended, the innermost."""
        self._console = console
        self._began = time.monotonic()
        self.began_at = datetime.now(UTC)

    @property
    def now_s(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._began

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """One stage of the demo."""
        began = self.now_s
        self._console.rule(f"[bold]{name}", align="left")
        try:
            yield
        except BaseException:
            self.failed = self.failed or name
            raise
        took = self.now_s - began
        self.done.append(Stage(name=name, began_s=began, seconds=took))
        self._console.print(f"[green]✓[/] {name}: {took:.1f} s")


def run_pipeline(recipe: Path, run_id: str, environment: dict[str, str]) -> None:
    """Run the pipeline as an ML engineer would; its lines go to this terminal.

    Raises TrainingFailed when it ends badly; the pipeline has then said why.
    """
    command = [sys.executable, "-m", "pipelines", "run"]
    run = subprocess.Popen(
        [*command, "--recipe", str(recipe), "--run-id", run_id],
        env={**os.environ, **environment},
    )
    try:
        status = run.wait()
    except BaseException:
        # On SIGTERM a run ends its steps before itself; killed, it would leave them behind.
        run.terminate()
        run.wait()
        raise
    if status:
        raise TrainingFailed(
            f"The pipeline run {run_id} ended with status {status}; its log is "
            f"{RUNS / run_id / 'pipeline.log'}."
        )


def summary_of_run(run_id: str) -> dict[str, Any]:
    """What a pipeline run left in its `summary.json`."""
    found: dict[str, Any] = json.loads((RUNS / run_id / "summary.json").read_text())
    return found
