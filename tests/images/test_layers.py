"""Layers are compared by their files, not by the order of their archives."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.images.daemon import Docker
from tests.images.layers import differences

CLIENT = """#!/bin/sh
# Stands in for Docker: what it inspects and saves lies beside it.
here=$(dirname "$0")
case $1 in
    image) cat "$here/$5.json" ;;
    save) cp "$here/$4.tar" "$3" ;;
esac
"""

FILES = {"a": b"one", "a-1": b"two"}


@pytest.fixture
def docker(tmp_path: Path) -> Docker:
    client = tmp_path / "docker"
    client.write_text(CLIENT)
    client.chmod(0o755)
    return Docker(str(client), "")


def archive(files: Mapping[str, bytes], mode: int = 0o644) -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as made:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size, about.mode = len(content), mode
            made.addfile(about, io.BytesIO(content))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "of/another/layer"
        made.addfile(link)
    return body.getvalue()


def image(folder: Path, name: str, layer: bytes) -> str:
    """An image of one layer that all have and one of its own."""
    manifest = json.dumps([{"Layers": ["base", "own"]}]).encode()
    saved = archive({"manifest.json": manifest, "base": archive({}), "own": layer})
    (folder / f"{name}.tar").write_bytes(saved)
    (folder / f"{name}.json").write_text(json.dumps(["base", str(hash(layer))]))
    return name


def test_another_order_is_no_difference(docker: Docker, tmp_path: Path) -> None:
    one = image(tmp_path, "one", archive(FILES))
    other = image(tmp_path, "other", archive(dict(reversed(FILES.items()))))
    assert differences(docker, one, other, tmp_path) == {}
    assert differences(docker, one, one, tmp_path) == {}


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (archive(FILES | {"a": b"0ne"}), {"a"}),
        (archive(FILES | {"b": b""}), {"b"}),
        (archive(FILES, mode=0o600), {"a", "a-1"}),
    ],
    ids=["content", "a file", "modes"],
)
def test_other_files_are_named(
    docker: Docker, tmp_path: Path, layer: bytes, named: set[str]
) -> None:
    one, other = image(tmp_path, "one", archive(FILES)), image(tmp_path, "other", layer)
    assert differences(docker, one, other, tmp_path) == {1: named}
