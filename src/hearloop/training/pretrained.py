"""Pretrained weights from object storage to this machine."""

import hashlib
import shutil
from pathlib import Path

from hearloop.errors import ConfigurationError
from hearloop.families import Family, Wav2Vec2Ctc
from hearloop.files import write_atomically
from hearloop.ports import ObjectStore

__all__ = ["fetch_pretrained"]

_FILES = (
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "pytorch_model.bin",
)
"""What is read of a Hugging Face folder; of the weights one is enough."""


def fetch_pretrained(family: Family | None, objects: ObjectStore, cache: Path) -> Path | None:
    """A local copy of a family's `s3://` source; None where it has another or none.

    It is fetched anew each time, for a prefix may hold other weights the next day; the recipe's
    SHA-256 is compared when they are loaded. Raises ConfigurationError where nothing is there.
    """
    if not isinstance(family, Wav2Vec2Ctc) or not family.source.startswith("s3://"):
        return None
    prefix = family.source.rstrip("/")
    folder = cache / "pretrained" / hashlib.sha256(prefix.encode()).hexdigest()
    stored = [f"{prefix}/{name}" for name in _FILES]
    found = [uri for uri in stored if objects.exists(uri)]
    if len(found) < 2:
        raise ConfigurationError(
            f"{prefix}/ holds no Hugging Face model, which has config.json beside "
            "model.safetensors or pytorch_model.bin; correct the recipe's source."
        )
    shutil.rmtree(folder, ignore_errors=True)
    for uri in found:
        write_atomically(folder / uri.rpartition("/")[2], objects.get(uri))
    return folder
