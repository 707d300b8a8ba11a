"""A pytest plugin that ends a run with a table of what was checked and one closing line.

Load it with `python -m pytest -p tests.closing_table …` from the root of the repository. Each line
of the table is a test function with all its parameters; reasons of skips and first lines of
failures stand below. The closing line is the last line of the output: `N passed, N failed,
N skipped`. A test counts once, by the worst of its phases; an error in set-up, tear-down or
collection counts as failed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import pytest

__all__ = ["pytest_configure"]

OUTCOMES: Final = ("passed", "skipped", "failed")
"""From the best to the worst: one test's phases are judged by the worst of them."""
WIDTH: Final = 72
"""Columns of a test's name; longer ones are cut so that the table stays in one piece."""


@dataclass(kw_only=True)
class Checked:
    """One test function of one file, with all its parameters."""

    outcomes: dict[str, str] = field(default_factory=dict)
    """Worst outcome by node id."""
    seconds: float = 0.0
    notes: dict[str, None] = field(default_factory=dict)
    """Reasons of skips and failures, each once and in order."""

    def add(self, node: str, outcome: str) -> None:
        """Count one phase of one test."""
        before = self.outcomes.get(node, OUTCOMES[0])
        self.outcomes[node] = max(before, outcome, key=OUTCOMES.index)

    def count(self, outcome: str) -> int:
        """How many tests ended so."""
        return sum(each == outcome for each in self.outcomes.values())


class ClosingTable:
    """Gathers reports, and prints them when the session is over."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._files: dict[str, dict[str, Checked]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count one phase (set-up, call, tear-down) of one test."""
        file, _, name = report.nodeid.partition("::")
        checked = self._files.setdefault(file, {}).setdefault(_function(name), Checked())
        checked.seconds += report.duration
        self._count(checked, report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count a file that could not be collected, or that skips as a whole."""
        if not report.passed:
            checked = self._files.setdefault(report.nodeid, {}).setdefault("", Checked())
            self._count(checked, report)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Iterator[None]:
        """Print after everything that pytest itself has to say."""
        try:
            yield
        finally:
            self._print()

    def _count(self, checked: Checked, report: pytest.TestReport | pytest.CollectReport) -> None:
        checked.add(report.nodeid, report.outcome)
        if not report.passed:
            checked.notes[_reason(report)] = None

    def _print(self) -> None:
        write = self._config.get_terminal_writer().line
        write()
        write(f"{'what was checked':{WIDTH}}  {'passed':>6} {'failed':>6} {'skipped':>7}     time")
        for file, functions in sorted(self._files.items()):
            write(file)
            for name, checked in functions.items():
                write(_line(name, checked))
                for note in checked.notes:
                    write(f"    {note}")
        everything = [each for functions in self._files.values() for each in functions.values()]
        totals = {outcome: sum(each.count(outcome) for each in everything) for outcome in OUTCOMES}
        write()
        write(f"{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped")


def pytest_configure(config: pytest.Config) -> None:
    """Register the table."""
    config.pluginmanager.register(ClosingTable(config), "closing-table")


def _function(name: str) -> str:
    """`TestX::test_that_it_is[a-b]` as `X: that it is`."""
    *classes, function = name.partition("[")[0].split("::")
    words = function.removeprefix("test_").replace("_", " ")
    return ": ".join([*(each.removeprefix("Test") for each in classes), words])


def _line(name: str, checked: Checked) -> str:
    counts = {outcome: checked.count(outcome) or "" for outcome in OUTCOMES}
    shown = f"  {name or '(the file itself)'}"[:WIDTH]
    return (
        f"{shown:{WIDTH}}  {counts['passed']:>6} {counts['failed']:>6} {counts['skipped']:>7} "
        f"{checked.seconds:>7.1f}s"
    )


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """One line: why it was skipped, or the message of the failure."""
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    if report.skipped:
        return f"expected to fail: {getattr(report, 'wasxfail', '')}"
    crash = getattr(report.longrepr, "reprcrash", None)
    message = crash.message if crash else report.longreprtext or "failed"
    return f"{report.nodeid.partition('::')[2] or 'collection'}: {message.splitlines()[0]}"
