"""What a person sees of a local run: a line for each stage with its time, and bars meanwhile.

Everything that KFP and the steps print goes to the run's log; only a step's own messages (see
`hearloop.run_records.MARK`) and its progress reach the terminal.
"""

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from hearloop.run_records import MARK

__all__ = ["StageConsole", "print_summary"]

PROGRESS = re.compile(r" INFO hearloop\.\S+ .*?(?P<done>\d[\d.e+]*) of (?P<total>\d[\d.e+]*)")
"""A line that long work logs now and then where it cannot draw a bar of its own."""


class StageConsole(io.TextIOBase):
    """Standard output of a local run: writes all of it to `log`, shows stages on `terminal`."""

    def __init__(self, log: Path, terminal: TextIO) -> None:
        self.log_path = log
        self._log = log.open("a", encoding="utf-8")
        self._line = ""
        self.console = Console(file=terminal, highlight=False)
        self._bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self.console.is_terminal,
        )
        self._bar = self._bars.add_task("", total=None, visible=False)
        self.failure: str | None = None
        """What the step that failed last said of it, in one sentence."""

    def __enter__(self) -> "StageConsole":
        self._bars.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bars.stop()
        self._log.close()

    def writable(self) -> bool:
        """Always: it stands in for standard output."""
        return True

    def write(self, text: str) -> int:
        """Log `text`; each line that it completes may tell something of a stage."""
        self._log.write(text)
        self._log.flush()
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._show(line.strip())
        return len(text)

    def _show(self, line: str) -> None:
        if line.startswith(MARK):
            self._show_stage(**json.loads(line.removeprefix(MARK)))
        elif found := PROGRESS.search(line):
            self._bars.update(
                self._bar, completed=float(found["done"]), total=float(found["total"])
            )

    def _show_stage(self, step: str, state: str, seconds: float, said: str) -> None:
        if state == "began":
            self._bars.reset(self._bar, description=step, total=None, visible=True)
            return
        self._bars.update(self._bar, visible=False)
        if state == "failed":
            self.failure = said
        shown = escape(said) if state == "done" else state
        self.console.print(f"{step:<10} {seconds:8.1f} s  {shown}")


def print_summary(summary: Mapping[str, Any], console: Console) -> None:
    """Close a run: what it learnt from, how well it hears, what became of it, and the time."""
    console.print(_word_errors(summary))
    told = {
        "run": summary["run_id"],
        "snapshot": summary["snapshot"][:12],
        "verdict": f"{summary['verdict']}: {summary['reason']}",
        "version": summary["version"],
        "outcome": f"{summary['outcome']}: {summary['why']}",
        "time": f"{summary['seconds']['total']:.0f} s",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in told.items():
        table.add_row(name, escape(value))
    console.print(table)


def _word_errors(summary: Mapping[str, Any]) -> Table:
    models = list(dict.fromkeys(model for rates in summary["wer"].values() for model in rates))
    table = Table("judged set", *models, title="Word error rate")
    for name, rates in summary["wer"].items():
        table.add_row(name, *(f"{rates[model]:.1%}" if model in rates else "" for model in models))
    return table
