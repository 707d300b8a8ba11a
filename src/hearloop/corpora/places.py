"""Files beside a manifest, on this machine or in object storage."""

from pathlib import Path

from hearloop.audio import Limits, decode, encode_flac
from hearloop.errors import ConfigurationError, InvalidAudio, NotFound
from hearloop.ports import ObjectStore

__all__ = ["Place"]

_HEADERLESS = {".g722": "g722"}
"""Suffixes of recordings that tell of their codec by nothing else."""


class Place:
    """A folder, local or `s3://`. A manifest in object storage never reaches local files."""

    def __init__(self, location: str, objects: ObjectStore) -> None:
        self._location = location
        self._objects = objects

    def folder(self, name: str) -> "Place":
        """A folder inside this one."""
        return Place(f"{self._location}/{name}", self._objects)

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        where = self._where(name)
        return self._objects.exists(where) if isinstance(where, str) else where.is_file()

    def read_text(self, name: str) -> str:
        """A text file; what is not UTF-8 becomes U+FFFD, so that only its own row is rejected.

        Raises ConfigurationError when it is missing.
        """
        try:
            body = self._read(name)
        except NotFound as error:
            raise ConfigurationError(
                f"There is no {name} in {self._location}; check the recipe's location."
            ) from error
        return body.decode("utf-8-sig", errors="replace").replace("\r\n", "\n")

    def read_bytes(self, name: str) -> bytes:
        """A whole file. Raises NotFound."""
        return self._read(name)

    def read_audio(self, name: str, limits: Limits | None = None) -> bytes:
        """A recording that `audio.decode` reads without being told its codec.

        Raises NotFound, and InvalidAudio when it passes the limits.
        """
        limits = limits or Limits()
        body = self._read(name, limits.bytes + 1)
        if len(body) > limits.bytes:
            raise InvalidAudio(
                f"{name} has more than {limits.bytes} bytes; cut it into utterances."
            )
        for suffix, codec in _HEADERLESS.items():
            if name.endswith(suffix):
                return encode_flac(decode(body, limits=limits, headerless=codec).samples)
        return body

    def _read(self, name: str, most: int = -1) -> bytes:
        """The first `most` bytes of a local file, or a whole object. Raises NotFound."""
        where = self._where(name)
        if isinstance(where, str):
            return self._objects.get(where)
        try:
            with where.open("rb") as file:
                return file.read(most)
        except (OSError, ValueError) as error:
            raise NotFound(
                f"{name} cannot be read in {self._location}: {error}; mend the manifest."
            ) from error

    def _where(self, name: str) -> str | Path:
        """A URI, or a local path."""
        if name.startswith("s3://"):
            return name
        if self._location.startswith("s3://"):
            return f"{self._location}/{name}"
        return Path(self._location) / name
