"""What a person sees while Hearloop works: log lines, stages with their times, progress bars.

On a terminal, rich draws; in a file or a pipe the same calls write plain lines, few of them.

    >>> with stage("ingest") as timed, progress("utterances", total=400) as bar:
    ...     for utterance in utterances:
    ...         bar.advance()
    >>> timed.seconds
    12.3
"""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

__all__ = ["Progress", "Silent", "Stage", "progress", "set_up_logging", "stage"]

LINE_SECONDS = 10.0
"""Between two lines of progress where no bar can be drawn: a log stays short and alive."""

NOISY = ("alembic", "botocore", "boto3", "httpx", "kafka", "matplotlib", "numba", "urllib3")
"""Loggers whose news are no news to our readers below WARNING."""

log = logging.getLogger(__name__)


class Progress(Protocol):
    """What long work reports to."""

    def advance(self, amount: float = 1.0) -> None:
        """`amount` more of the total is done. May be called from any thread."""


class Silent:
    """A Progress that nobody watches."""

    def advance(self, amount: float = 1.0) -> None:
        """Nothing to show."""


class Stage:
    """The clock of one stage: `seconds` so far, and in all once the stage has ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._began = time.monotonic()
        self._took: float | None = None

    @property
    def seconds(self) -> float:
        """Wall seconds since the stage began, until it ended."""
        return time.monotonic() - self._began if self._took is None else self._took

    def end(self) -> None:
        """Stop the clock."""
        self._took = self.seconds


def set_up_logging(level: int = logging.INFO) -> None:
    """Send the log to standard error: drawn on a terminal, plain lines with UTC times elsewhere."""
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(console=_console(), show_path=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler()
        formatter = logging.Formatter(
            "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


@contextmanager
def stage(name: str) -> Iterator[Stage]:
    """Time a block and log one line when it ends: its name, its seconds, and whether it failed."""
    clock = Stage(name)
    try:
        yield clock
    except BaseException as error:
        clock.end()
        log.error("%s failed after %.1f s: %s", name, clock.seconds, type(error).__name__)
        raise
    clock.end()
    log.info("%s took %.1f s", name, clock.seconds)


@contextmanager
def progress(description: str, total: float) -> Iterator[Progress]:
    """Show how much of `total` is done: a bar on a terminal, a line now and then elsewhere."""
    console = _console()
    if not console.is_terminal:
        yield _Lines(description, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console, transient=True) as bars:
        yield _Bar(bars, description, total)


class _Bar:
    def __init__(self, bars: RichProgress, description: str, total: float) -> None:
        self._bars = bars
        self._task = bars.add_task(description, total=total)

    def advance(self, amount: float = 1.0) -> None:
        self._bars.advance(self._task, amount)


class _Lines:
    """Progress as log lines, at most one in LINE_SECONDS."""

    def __init__(self, description: str, total: float) -> None:
        self._description = description
        self._total = total
        self._done = 0.0
        self._spoke = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, amount: float = 1.0) -> None:
        with self._lock:
            self._done += amount
            now = time.monotonic()
            if now - self._spoke < LINE_SECONDS:
                return
            self._spoke = now
        log.info("%s: %g of %g", self._description, round(self._done, 1), self._total)


def _console() -> Console:
    """One console a call: standard error may have been redirected since the last."""
    return Console(stderr=True)
