import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MIXED = """
import pytest

@pytest.mark.parametrize("number", [1, 2, 3])
def test_numbers_are_small(number):
    if number == 2:
        pytest.skip("no two today")
    assert number < 3, "too large"

@pytest.fixture
def room():
    yield
    raise RuntimeError("cannot be left")

def test_tear_down_counts_once(room):
    pass
"""


def ended(folder: Path) -> list[str]:
    places = ["-c", str(folder / "none.ini"), "--rootdir", str(folder), str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.closing_table", *places],
        cwd=ROOT,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "none.ini").write_text("[pytest]\n")
    (tmp_path / "test_mixed.py").write_text(MIXED)
    return tmp_path


def test_each_test_counts_once_by_the_worst_of_its_phases(folder: Path) -> None:
    lines = ended(folder)
    assert lines[-1] == "1 passed, 2 failed, 1 skipped"
    table = "\n".join(lines[-10:])
    assert "numbers are small" in table
    assert "no two today" in table
    assert "too large" in table
    assert "cannot be left" in table


def test_a_file_that_cannot_be_collected_has_failed(folder: Path) -> None:
    (folder / "test_broken.py").write_text("import no_such_module\n")
    (folder / "test_mixed.py").unlink()
    assert ended(folder)[-1] == "0 passed, 1 failed, 0 skipped"
