"""How the demo begins, and how it ends when it cannot."""

import os
from pathlib import Path

import pytest

from demo import __main__ as demo
from hearloop.drift.policy import MonitorPolicy
from hearloop.errors import Conflict


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somewhere whose name looks like markup."""
    place = tmp_path / "[/odd]"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    for name in ("HEARLOOP_MONITOR_POLICY", "HEARLOOP_PIPELINE_RUNS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(demo, "set_up_logging", lambda: None)
    return place


def test_two_demos_do_not_play_in_one_folder(folder: Path) -> None:
    with demo._alone(), pytest.raises(Conflict, match="Another demo"), demo._alone():
        pass
    with demo._alone():
        pass


def test_what_another_demo_has_at_hand_is_left_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at_hand = folder / demo.FOLDER / "stack" / "hearloop.db"
    at_hand.parent.mkdir(parents=True)
    at_hand.touch()

    with demo._alone():
        assert demo.main() == 1

    assert at_hand.exists()
    assert "[/odd]" in capsys.readouterr().out.replace("\n", "")


def test_a_demo_forgets_the_one_before_and_leaves_the_monitor_its_policy(folder: Path) -> None:
    old = folder / demo.FOLDER / "summary.json"
    old.parent.mkdir(parents=True)
    old.touch()

    demo._start_afresh()

    assert not old.exists()
    policy = Path(os.environ["HEARLOOP_MONITOR_POLICY"])
    assert policy.is_absolute()
    assert MonitorPolicy.from_json(policy.read_text()) == demo.SCENARIO.policy
