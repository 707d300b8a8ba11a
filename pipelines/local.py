"""Runs the pipeline on this machine with KFP's local runner, each step a process of its own."""

import fcntl
import json
import os
import shlex
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import psutil
from kfp import local
from rich.console import Console

from hearloop import composition, run_records
from hearloop.config import Settings
from hearloop.errors import HearloopError
from hearloop.recipe import Recipe
from pipelines.console import StageConsole, print_summary
from pipelines.graph import continuous_learning

if TYPE_CHECKING:
    from hearloop.stack import Stack

__all__ = ["SUMMARY", "StepFailed", "run_here"]

SUMMARY = "summary.json"
"""What a run was and did, in its folder below the setting `pipeline_runs`."""

SERVICES = "serving"
"""What a run needs of the stack, with all that it needs in turn; nobody watches for drift."""

MONITOR = "monitoring"

NO_PYTHON_IN_IMAGE_NAME = "You may be attemping to run a task that uses custom or non-Python base"
"""KFP's doubt about an image whose name lacks "python"; here the steps run in this environment."""

EXECUTOR_MODULE = "kfp.dsl.executor_main"
"""Every step's command names it."""

ENDINGS = (signal.SIGTERM, signal.SIGHUP)

END_SECONDS = 30.0
"""What a step that is told to end may take: training writes a checkpoint first."""


class StepFailed(HearloopError):
    """A step of a local run failed; the message is the step's own."""


def run_here(recipe: Recipe, run_id: str) -> dict[str, Any]:
    """Run the pipeline; returns its summary, which is also left in the run's folder.

    Raises StepFailed with the sentence of the step that ended the run, and what starting the
    stack raises.
    """
    began = time.monotonic()
    folder = Settings().pipeline_runs / run_id
    folder.mkdir(parents=True, exist_ok=True)
    with _steps_end_with_us(), _stack():
        with StageConsole(folder / "pipeline.log", sys.stdout) as shown:
            _run_graph(recipe, run_id, folder, shown)
        summary = _summary(run_id, recipe, time.monotonic() - began)
    (folder / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    print_summary(summary, Console())
    return summary


def _run_graph(recipe: Recipe, run_id: str, folder: Path, shown: StageConsole) -> None:
    with ExitStack() as undo:
        undo.enter_context(_own_temporary_folder())
        undo.enter_context(_quoted_interpreter())
        undo.enter_context(redirect_stdout(shown))
        undo.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message=NO_PYTHON_IN_IMAGE_NAME)
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(folder / "artifacts"),
        )
        try:
            continuous_learning(recipe=recipe.to_json(), run_id=run_id)
        except RuntimeError as error:
            raise StepFailed(
                shown.failure
                or f"A step ended without a word ({error}); the log is {shown.log_path}."
            ) from error


def _summary(run_id: str, recipe: Recipe, total: float) -> dict[str, Any]:
    records = composition.run_records(Settings(), run_id)
    found = run_records.summary(records, recipe.name)
    found["seconds"]["total"] = round(total, 3)
    return found


@contextmanager
def _stack() -> Iterator[None]:
    """The stack that settings point to, or the one at home, which is started where it is down.

    The last run to end stops what runs have started. A stack with a monitor was started by
    somebody else, before or meanwhile, and goes on.
    """
    if "HEARLOOP_S3__ENDPOINT_URL" in os.environ:
        yield
        return
    from hearloop.stack import Stack

    home = Stack().home
    home.mkdir(parents=True, exist_ok=True)
    with (home / "runs.lock").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        stack = Stack()  # only now is it sure that no other run is about to stop it
        try:
            stack.up(SERVICES)
            yield
        finally:
            with suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _watched(stack):
                    stack.down()


def _watched(stack: "Stack") -> bool:
    """Whether the drift monitor is up, which no run asks for."""
    return any(one.name == MONITOR and one.state != "stopped" for one in stack.status())


@contextmanager
def _quoted_interpreter() -> Iterator[None]:
    """KFP pastes `sys.executable` into a shell command: quote it, for its path may have spaces."""
    before = sys.executable
    sys.executable = shlex.quote(before)
    try:
        yield
    finally:
        sys.executable = before


@contextmanager
def _own_temporary_folder() -> Iterator[None]:
    """KFP leaves folders in TMPDIR for the run and for each step: give it one that is removed."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="hearloop-") as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            tempfile.tempdir = None
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


@contextmanager
def _steps_end_with_us() -> Iterator[None]:
    """When told to end, or when the terminal closes, end the running step too, which KFP would
    leave behind, then clean up."""

    def end(number: int, frame: FrameType | None) -> None:
        for each in told:
            signal.signal(each, signal.SIG_IGN)  # a terminal that closes may tell us twice
        processes = _step_processes()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=END_SECONDS)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        sys.exit(128 + number)

    # What nohup made us ignore stays ignored.
    told = [each for each in ENDINGS if signal.getsignal(each) != signal.SIG_IGN]
    before = {each: signal.signal(each, end) for each in told}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _step_processes() -> list[psutil.Process]:
    """The processes of the running step: its shell, its interpreter and what that started."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if EXECUTOR_MODULE in " ".join(child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found
