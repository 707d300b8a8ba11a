"""A trained recogniser as a bundle: the directory that is registered, fetched and served.

    model.safetensors   weights, to go on training from
    model.onnx          streaming graph: features and states in, log-probabilities and states out
    model.int8.onnx     the same with weights of eight bits: half the time, a third of the size
    tokens.txt          characters, or pieces of words, and their ids
    tokens.model        where there are pieces, the sentencepiece model that they are from
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

from hearloop.architecture import Shape, described
from hearloop.errors import IntegrityError
from hearloop.families import Family, Wav2Vec2Ctc
from hearloop.tokenizer import PIECES

__all__ = [
    "FILES",
    "FORMAT",
    "GRAPHS",
    "MANIFEST",
    "SERVED",
    "UNIT_FILES",
    "Bundle",
    "Precision",
    "Units",
    "hears_samples",
    "verify",
]

Units = Literal["characters", "sentencepiece"]
"""What a recogniser writes at a time."""
Precision = Literal["fp32", "int8"]
"""Of the weights with which a graph computes."""

GRAPHS: Final[Mapping[Precision, str]] = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
SERVED: Final[Precision] = "int8"
"""What servers answer with unless they are told otherwise, and so what the gate judges."""
FILES: Final = ("config.json", *GRAPHS.values(), "model.safetensors", "tokens.txt")
"""What the manifest covers: exactly these, and the attachments of the architecture."""
UNIT_FILES: Final[Mapping[Units, tuple[str, ...]]] = {
    "characters": (),
    "sentencepiece": (PIECES,),
}
"""What a bundle holds besides, by what it writes in."""
MANIFEST: Final = "manifest.json"
FORMAT: Final = 2
"""Version of the bundle's layout and of the graph's inputs and outputs."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A verified bundle."""

    directory: Path
    digest: str
    """SHA-256 of the manifest: the identity of the model."""
    architecture: Shape
    training: str
    """Digest of the recipe and data that it was trained with."""
    language: str = "en"
    """Tag of the language in which it writes."""
    units: Units = "characters"

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files, the manifest last: without it nobody takes the rest for a model."""
        return (*FILES, *self.architecture.attachments, *UNIT_FILES[self.units], MANIFEST)


def verify(directory: Path) -> Bundle:
    """Check every byte of a bundle against its manifest, then read its configuration.

    Raises:
        IntegrityError: a file is missing, added, changed, or of another format.
    """
    manifest_body = _read(directory / MANIFEST)
    try:
        listed = json.loads(manifest_body)["files"]
        _check(directory / "config.json", listed)
        config = json.loads(_read(directory / "config.json"))
        architecture = _architecture(directory, config)
        units, language = config.get("units", "characters"), config.get("language", "en")
        expected = {*FILES, *architecture.attachments, *UNIT_FILES[units]}
        if set(listed) != expected:
            raise IntegrityError(
                f"The manifest of {directory} lists {sorted(listed)} where a model of format "
                f"{FORMAT} has {sorted(expected)}; fetch the model again, or export it with this "
                "version of hearloop."
            )
        for name in expected:
            _check(directory / name, listed)
        training = config["training"]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{directory} is not a readable model ({error!r}); fetch or export it again."
        ) from error
    digest = hashlib.sha256(manifest_body).hexdigest()
    return Bundle(
        directory=directory,
        digest=digest,
        architecture=architecture,
        training=training,
        language=language,
        units=units,
    )


def hears_samples(family: Family | None, base: Path | None) -> bool:
    """Whether the network of a recipe's family, else that of the bundle `base`, takes samples.

    The others take log-mel features. Raises IntegrityError as `verify` does.
    """
    network = verify(base).architecture if family is None and base else family
    return isinstance(network, Wav2Vec2Ctc)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IntegrityError(
            f"The model file {path} cannot be read ({error.strerror}); fetch the model again."
        ) from error


def _check(path: Path, listed: Mapping[str, Any]) -> None:
    sha256, size = listed[path.name]["sha256"], listed[path.name]["bytes"]
    body = _read(path)
    found = hashlib.sha256(body).hexdigest()
    if len(body) != size or found != sha256:
        raise IntegrityError(
            f"The model file {path} has {len(body)} bytes and SHA-256 {found}, its manifest says "
            f"{size} and {sha256}; fetch the model again."
        )


def _architecture(directory: Path, config: Mapping[str, Any]) -> Shape:
    architecture = described(config["family"], config["architecture"])
    expected = {"format": FORMAT, "features": architecture.feature_configuration}
    for field, value in expected.items():
        if config[field] != value:
            raise IntegrityError(
                f"The model in {directory} has {field} {config[field]!r}, this version of "
                f"hearloop reads {value!r}; export the model with this version."
            )
    return architecture
