import io
import logging
from collections.abc import Iterator

import pytest
from rich.console import Console

from hearloop import telemetry
from hearloop.telemetry import Silent, progress, set_up_logging, stage


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in telemetry.NOISY}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def test_a_stage_is_timed_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), stage("ingest") as timed:
        running = timed.seconds
    assert 0 <= running <= timed.seconds < 5
    assert timed.seconds == timed.seconds
    assert [record.message for record in caplog.records] == [f"ingest took {timed.seconds:.1f} s"]


def test_a_stage_that_fails_says_so_and_lets_the_error_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ValueError, match="bad"), stage("ingest") as timed:
        raise ValueError("bad")
    assert caplog.messages == [f"ingest failed after {timed.seconds:.1f} s: ValueError"]


def test_progress_in_a_file_is_a_line_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(telemetry.time, "monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO), progress("utterances", total=100) as bar:
        for _ in range(100):
            now[0] += 0.25
            bar.advance()
    assert caplog.messages == ["utterances: 40 of 100", "utterances: 80 of 100"]


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(telemetry, "_console", lambda: console)
    with progress("utterances", total=4) as bar:
        for _ in range(4):
            bar.advance()
    assert "utterances" in screen.getvalue()
    assert "4/4" in screen.getvalue()


def test_nobody_has_to_watch() -> None:
    Silent().advance(3)


def test_log_lines_in_a_file_have_utc_times_and_no_chatter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_logging()
    logging.getLogger("hearloop").info("said")
    logging.getLogger("botocore").info("chatter")
    logging.getLogger("hearloop").debug("detail")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("Z INFO hearloop: said")
