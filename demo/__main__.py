"""`python -m demo`: the whole loop on one machine, measured, in one closing report."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo.closing import details_of, summary_of, summary_so_far
from demo.report import claims, render
from demo.scenario import SCENARIO
from demo.stage import FOLDER, RUNS, Stages
from demo.story import BASE_RUN, POISON_RUN, Story
from hearloop import composition
from hearloop.errors import Conflict, HearloopError
from hearloop.stack import Ports, Stack
from hearloop.telemetry import set_up_logging
from pipelines.recipes import retrain, synthetic

__all__ = ["main"]

HOME = FOLDER / "stack"
POLICY = FOLDER / "policy.json"
SUMMARY = FOLDER / "summary.json"
REPORT = FOLDER / "report.html"

LOCK = FOLDER.with_suffix(".lock")
"""Held by the demo that plays; beside the folder, which each demo begins anew."""


def main() -> int:
    """Play the demo. Returns the exit status: 0 when every claim of the report was met."""
    set_up_logging()
    console = Console()
    try:
        with _alone():
            summary = _play(console)
    except HearloopError as error:
        console.print(f"[bold red]{escape(str(error))}")
        return 1
    return 0 if _print_claims(summary, console) else 1


def _play(console: Console) -> dict[str, Any]:
    _start_afresh()
    stages = Stages(console)
    with ExitStack() as running:
        stack = Stack(HOME, ports=Ports.free())
        with stages.stage("start the services"):
            running.enter_context(stack)
        story = Story(
            scenario=SCENARIO,
            stack=stack,
            folder=FOLDER,
            recipes=(synthetic(), retrain()),
            console=console,
            stages=stages,
        )
        try:
            story.play()
            _keep_evaluations(story)
        except HearloopError as error:
            _write_summary(summary_so_far(story, error))
            console.print(f"{SUMMARY} has what was measured until then.")
            raise
        with stages.stage("stop the services"):
            running.close()
    summary = summary_of(story)
    _write_summary(summary)
    REPORT.write_text(render(summary, details_of(story)))
    return summary


def _write_summary(summary: dict[str, Any]) -> None:
    SUMMARY.write_text(json.dumps(summary, indent=2) + "\n")


@contextmanager
def _alone() -> Iterator[None]:
    """One demo at a time in this folder. Raises Conflict beside another one."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"Another demo is playing in {FOLDER.absolute()}; wait until it has ended."
            ) from None
        yield


def _start_afresh() -> None:
    """Forget the demo before, end what it may have left, and leave the monitor its policy."""
    if Ports.of_home(HOME) is not None:  # it was killed before it could stop its services
        Stack(HOME).down()
    if FOLDER.exists():
        shutil.rmtree(FOLDER)
    FOLDER.mkdir(parents=True)
    POLICY.write_text(json.dumps(asdict(SCENARIO.policy)))
    os.environ["HEARLOOP_MONITOR_POLICY"] = str(POLICY.absolute())
    os.environ["HEARLOOP_PIPELINE_RUNS"] = str(RUNS.absolute())


def _keep_evaluations(story: Story) -> None:
    """Copy the evaluation reports of the runs beside the demo's own."""
    folder = FOLDER / "evaluations"
    folder.mkdir()
    registry = composition.registry(story.settings)
    for run, version in (
        (BASE_RUN, story.base),
        (story.retrain, story.challenger),
        (POISON_RUN, story.poisoned),
    ):
        (folder / f"{run}.html").write_bytes(registry.attachment(version, "report.html"))


def _print_claims(summary: dict[str, Any], console: Console) -> bool:
    """The closing table; returns whether every claim was met."""
    table = Table("what the demo has to show", "measured", "")
    for claim in claims(summary):
        shown = "[green]✓" if claim.met else "[red]✗"
        table.add_row(claim.text, escape(claim.measured), shown)
    console.print(table)
    total, training = summary["seconds"]["total"], summary["seconds"]["training"]
    console.print(f"{total:.0f} s in all, {1 - training / total:.0%} of it outside training.")
    console.print(f"The story: {REPORT}; the figures: {SUMMARY}")
    return all(claim.met for claim in claims(summary))


if __name__ == "__main__":
    raise SystemExit(main())
