"""Files that are whole or not there."""

import os
import tempfile
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(path: Path, body: bytes) -> None:
    """Put `body` at `path`, so that a reader finds what was there before or all of it.

    Where it cannot be written, on a full disk for instance, nothing is left behind and what was
    there stays. Folders on the way are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
        os.replace(unfinished, path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
