import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hearloop.run_records import MARK
from pipelines.console import PROGRESS, StageConsole, print_summary


def told(step: str, state: str, seconds: float = 1.25, said: str = "") -> str:
    message = {"step": step, "state": state, "seconds": seconds, "said": said}
    return f"    {MARK}{json.dumps(message)}\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "pipeline.log"


def shown(log: Path, *written: str) -> tuple[str, StageConsole]:
    terminal = io.StringIO()
    with StageConsole(log, terminal) as console:
        for text in written:
            console.write(text)
    return terminal.getvalue(), console


def test_only_the_steps_own_lines_reach_the_terminal_and_all_lines_the_log(log: Path) -> None:
    written = ["KFP says a lot\n", told("ingest", "began"), told("ingest", "done"), "and more\n"]

    terminal, _ = shown(log, *written)

    assert terminal.split() == ["ingest", "1.2", "s"]
    assert log.read_text() == "".join(written)


def test_a_line_may_arrive_in_pieces(log: Path) -> None:
    line = told("train", "done", 75.0)

    terminal, _ = shown(log, "    ", line[:9], line[9:])

    assert terminal.split() == ["train", "75.0", "s"]


def test_a_failure_is_shown_and_its_sentence_kept(log: Path) -> None:
    terminal, console = shown(log, told("validate", "failed", said="Row one is broken; mend it."))

    assert "failed" in terminal
    assert console.failure == "Row one is broken; mend it."


def test_what_a_step_says_is_shown_as_it_is(log: Path) -> None:
    terminal, _ = shown(log, told("train", "done", said="read [/tmp/run.log] and [bold]"))

    assert "read [/tmp/run.log] and [bold]" in terminal


def test_a_second_run_adds_to_the_log(log: Path) -> None:
    shown(log, "first\n")
    shown(log, "second\n")

    assert log.read_text() == "first\nsecond\n"


@pytest.mark.parametrize(
    ("line", "done", "total"),
    [
        ("2026-11-22T15:51:41.404Z INFO hearloop.telemetry: judged utterances: 31 of 40", 31, 40),
        (
            "2026-11-22T15:51:41.404Z INFO hearloop.training.curves: training: step 120 of 1400, "
            "loss 0.512, 210 audio s/s, 150 s left",
            120,
            1400,
        ),
    ],
)
def test_progress_that_a_step_logs_moves_the_bar(line: str, done: int, total: int) -> None:
    found = PROGRESS.search(line)

    assert found is not None
    assert (float(found["done"]), float(found["total"])) == (done, total)


SUMMARY: dict[str, Any] = {
    "run_id": "r-1",
    "snapshot": "0123456789abcdef",
    "wer": {"new": {"champion": 0.5, "challenger": 0.125}, "golden": {"challenger": 0.04}},
    "verdict": "pass",
    "reason": "Every needed check passed.",
    "version": "4",
    "outcome": "promoted",
    "why": "the last step [2 of 2] had enough answers [/see the log]",
    "seconds": {"total": 61.4},
}


def test_the_closing_table_has_the_error_rates_and_what_became_of_the_model() -> None:
    terminal = io.StringIO()

    print_summary(SUMMARY, Console(file=terminal, width=100))

    text = terminal.getvalue()
    for expected in (
        "50.0%",
        "12.5%",
        "4.0%",
        "0123456789ab",
        "pass: Every",
        "[/see the log]",
        "61 s",
    ):
        assert expected in text
