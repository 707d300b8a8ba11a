import os
from pathlib import Path

import pytest

from hearloop.files import write_atomically


def test_what_was_there_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"another")
    assert path.read_bytes() == b"another"
    assert os.listdir(path.parent) == ["file"]


def test_where_it_cannot_be_written_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"another")
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"one"
