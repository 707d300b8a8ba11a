"""`python -m demo`: the whole loop on one machine, measured, in one closing report."""

import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from demo.closing import details_of, summary_of
from demo.report import claims, render
from demo.scenario import SCENARIO
from demo.stage import FOLDER, RUNS, Stages
from demo.story import BASE_RUN, POISON_RUN, Story
from hearloop import composition
from hearloop.errors import HearloopError
from hearloop.stack import Ports, Stack
from hearloop.telemetry import set_up_logging
from pipelines.recipes import retrain, synthetic

__all__ = ["main"]

POLICY = FOLDER / "policy.json"


def main() -> int:
    """Play the demo. Returns the exit status: 0 when every claim of the report was met."""
    set_up_logging()
    console = Console()
    try:
        summary = _play(console)
    except HearloopError as error:
        console.print(f"[bold red]{error}")
        return 1
    return 0 if _print_claims(summary, console) else 1


def _play(console: Console) -> dict[str, Any]:
    _start_afresh()
    stages = Stages(console)
    with ExitStack() as running:
        stack = Stack(FOLDER / "stack", ports=Ports.free())
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
        story.play()
        _keep_evaluations(story)
        with stages.stage("stop the services"):
            running.close()
    summary = summary_of(story)
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (FOLDER / "report.html").write_text(render(summary, details_of(story)))
    return summary


def _start_afresh() -> None:
    """Forget the demo before, and leave the monitor its policy."""
    shutil.rmtree(FOLDER, ignore_errors=True)
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
        table.add_row(claim.text, claim.measured, "[green]✓" if claim.met else "[red]✗")
    console.print(table)
    total, training = summary["seconds"]["total"], summary["seconds"]["training"]
    console.print(f"{total:.0f} s in all, {1 - training / total:.0%} of it outside training.")
    console.print(f"The story: {FOLDER / 'report.html'}; the figures: {FOLDER / 'summary.json'}")
    return all(claim.met for claim in claims(summary))


if __name__ == "__main__":
    raise SystemExit(main())
