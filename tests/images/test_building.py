"""A build that fails is a failure, unless this machine can reach no packages at all."""

import zipfile
from pathlib import Path

import pytest

from tests.images.building import Builder
from tests.images.daemon import Docker


@pytest.fixture
def failing() -> Builder:
    """A client whose every command fails."""
    return Builder(Docker("false", ""), "", ())


def test_without_a_package_index_it_is_skipped(
    failing: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")

    with pytest.raises(pytest.skip.Exception, match="the package index cannot be reached"):
        failing.build("serving")


def test_beside_a_package_index_it_fails(
    failing: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "six-1.0-py3-none-any.whl", "w") as wheel:
        about = "Metadata-Version: 2.1\nName: six\nVersion: 1.0\n"
        wheel.writestr("six-1.0.dist-info/METADATA", about)
        wheel.writestr("six-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

    with pytest.raises(AssertionError):
        failing.build("serving")
