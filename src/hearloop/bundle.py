"""A trained recogniser as a bundle: the directory that is registered, fetched and served.

    model.safetensors   weights, to go on training from
    model.onnx          streaming graph: features and states in, log-probabilities and states out
    model.int8.onnx     the same with weights of eight bits: half the time, a third of the size
    tokens.txt          characters and their ids
    config.json         family, sizes, feature configuration, digest of the training recipe
    manifest.json       SHA-256 and size of each file above: verified before anything is loaded

`hearloop.export` writes bundles; reading and verifying them needs no torch.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from hearloop import features
from hearloop.architecture import Architecture
from hearloop.errors import IntegrityError

__all__ = [
    "FAMILY",
    "FILES",
    "FORMAT",
    "GRAPHS",
    "MANIFEST",
    "SERVED",
    "Bundle",
    "Precision",
    "verify",
]

Precision = Literal["fp32", "int8"]
"""Of the weights with which a graph computes."""

GRAPHS: Final[Mapping[Precision, str]] = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
SERVED: Final[Precision] = "int8"
"""What servers answer with unless they are told otherwise, and so what the gate judges."""
FILES: Final = ("config.json", *GRAPHS.values(), "model.safetensors", "tokens.txt")
"""What the manifest covers: exactly these."""
MANIFEST: Final = "manifest.json"
FAMILY: Final = "conv-lstm-ctc"
FORMAT: Final = 2
"""Version of the bundle's layout and of the graph's inputs and outputs."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A verified bundle."""

    directory: Path
    digest: str
    """SHA-256 of the manifest: the identity of the model."""
    architecture: Architecture
    training: str
    """Digest of the recipe and data that it was trained with."""


def verify(directory: Path) -> Bundle:
    """Check every byte of a bundle against its manifest, then read its configuration.

    Raises:
        IntegrityError: a file is missing, added, changed, or of another format.
    """
    manifest_body = _read(directory / MANIFEST)
    try:
        listed = json.loads(manifest_body)["files"]
        if set(listed) != set(FILES):
            raise IntegrityError(
                f"The manifest of {directory} lists {sorted(listed)} where a model of format "
                f"{FORMAT} has {sorted(FILES)}; fetch the model again, or export it with this "
                "version of hearloop."
            )
        for name in FILES:
            _check(directory / name, listed[name]["sha256"], listed[name]["bytes"])
        config = json.loads(_read(directory / "config.json"))
        _check_config(directory, config)
        architecture = Architecture(**config["architecture"])
        training = config["training"]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{directory} is not a readable model ({error!r}); fetch or export it again."
        ) from error
    digest = hashlib.sha256(manifest_body).hexdigest()
    return Bundle(directory=directory, digest=digest, architecture=architecture, training=training)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IntegrityError(
            f"The model file {path} cannot be read ({error.strerror}); fetch the model again."
        ) from error


def _check(path: Path, sha256: str, size: int) -> None:
    body = _read(path)
    found = hashlib.sha256(body).hexdigest()
    if len(body) != size or found != sha256:
        raise IntegrityError(
            f"The model file {path} has {len(body)} bytes and SHA-256 {found}, its manifest says "
            f"{size} and {sha256}; fetch the model again."
        )


def _check_config(directory: Path, config: dict[str, Any]) -> None:
    expected = {"format": FORMAT, "family": FAMILY, "features": features.CONFIGURATION}
    for field, value in expected.items():
        if config[field] != value:
            raise IntegrityError(
                f"The model in {directory} has {field} {config[field]!r}, this version of "
                f"hearloop reads {value!r}; export the model with this version."
            )
