"""What the layers of an image hold, in whatever order a daemon writes it down.

Debian's Docker (20.10) was seen to write the archive of a layer now folder by folder, now by whole
names, where `-` comes before `/`. Its digest differs then, though no file does.
"""

import hashlib
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests.images.daemon import Docker

__all__ = ["Entries", "differences", "digests"]

SAVE_SECONDS = 300.0

Entries = frozenset[tuple[object, ...]]
"""Name, kind, mode, owner, group, time, link and content of each file of a layer."""


def digests(docker: Docker, image: str) -> list[str]:
    """Of the archives of the image's layers."""
    shown = docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", image).stdout
    found: list[str] = json.loads(shown)
    return found


def differences(docker: Docker, one: str, other: str, folder: Path) -> dict[int, set[str]]:
    """Names of the files that differ between two images, by the number of the layer."""
    pairs = list(zip(digests(docker, one), digests(docker, other), strict=True))
    numbers = [number for number, (first, second) in enumerate(pairs) if first != second]
    if not numbers:
        return {}
    found = [_entries(docker, image, numbers, folder / "image.tar") for image in (one, other)]
    return {
        number: {str(entry[0]) for entry in first ^ second}
        for number, first, second in zip(numbers, *found, strict=True)
        if first != second
    }


def _entries(docker: Docker, image: str, numbers: Sequence[int], path: Path) -> list[Entries]:
    docker("save", "--output", str(path), image, seconds=SAVE_SECONDS)
    with tarfile.open(path) as archive:
        manifest = json.load(_file(archive, "manifest.json"))
        names = [manifest[0]["Layers"][number] for number in numbers]
        found = [_of_layer(_file(archive, name)) for name in names]
    path.unlink()
    return found


def _of_layer(file: IO[bytes]) -> Entries:
    with tarfile.open(fileobj=file) as layer:
        return frozenset(_entry(layer, member) for member in layer)


def _entry(layer: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[object, ...]:
    content = layer.extractfile(member) if member.isreg() else None
    digest = hashlib.sha256(content.read()).hexdigest() if content else ""
    attributes = tuple(sorted(member.pax_headers.items()))
    about = (member.name, member.type, member.mode, member.uid, member.gid, member.mtime)
    return (*about, member.linkname, digest, attributes)


def _file(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    assert found is not None, f"{name} is no file of the image's archive"
    return found
