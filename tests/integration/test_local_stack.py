"""Runs that share the stack at home: it goes on as long as somebody needs it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hearloop.stack import Ports, Stack
from pipelines import local

pytestmark = pytest.mark.stack


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A home of the test's own, where object storage is all that a run needs, and the event log
    is what only others start: both are up in a second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEARLOOP_S3__ENDPOINT_URL", raising=False)
    monkeypatch.setattr(local, "SERVICES", "objects")
    monkeypatch.setattr(local, "MONITOR", "events")
    Stack().home.mkdir(parents=True)
    yield
    Stack().down()


def use_free_ports() -> None:
    """They are forgotten when the stack goes down."""
    Ports.free().keep(Stack().home)


def test_the_last_run_to_end_stops_what_runs_have_started(home: None) -> None:
    use_free_ports()
    with local._stack():
        with local._stack():
            assert Stack().alive
        assert Stack().alive
    assert not Stack().alive


def test_a_stack_that_somebody_else_keeps_goes_on(home: None) -> None:
    use_free_ports()
    with local._stack():
        Stack().up("events")
    assert Stack().alive


def test_what_a_killed_run_has_left_is_no_running_stack(home: None) -> None:
    use_free_ports()
    (Stack().home / "stack.env").write_text("HEARLOOP_S3__ENDPOINT_URL='http://127.0.0.1:9'\n")
    with local._stack():
        assert Stack().alive


def test_with_an_endpoint_in_the_environment_nothing_is_started(
    home: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARLOOP_S3__ENDPOINT_URL", "http://127.0.0.1:9")
    with local._stack():
        assert not Stack().alive
