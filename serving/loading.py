"""From the name of a version to a recogniser that may serve: fetched, verified, warmed up."""

import logging
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from hearloop import composition
from hearloop.audio import SAMPLE_RATE
from hearloop.bundle import SERVED, Precision, verify
from hearloop.config import Settings
from hearloop.errors import IntegrityError, ServiceUnavailable, VersionRefused
from hearloop.recogniser import Recogniser
from serving.settings import ServerSettings

__all__ = ["Loader", "VersionRegistry", "loader"]

WARM_UP_SECONDS = (0.02, 1.0, 6.0)
"""Lengths of the utterances that a version must answer before it serves: the shortest that a
feature frame fits in, a word, a long sentence."""

log = logging.getLogger(__name__)


class VersionRegistry(Protocol):
    """The part of the model registry that the server needs."""

    def champion(self) -> str | None:
        """The version that carries the champion alias."""

    def fetch(self, version: str, cache: Path) -> Path:
        """The verified bundle of a version. Raises NotFound, IntegrityError."""


class Loader:
    """Loads versions. `registry` is built when it is first needed: it may be away at the start.

    `cache`: where the registry keeps its copies of bundles, by digest. `precision`: of the graph
    that serves, for files and for live streams.
    """

    def __init__(
        self, registry: Callable[[], VersionRegistry], cache: Path, precision: Precision = SERVED
    ) -> None:
        self.registry = registry
        self._cache = cache
        self._precision = precision

    def load(self, version: str, digest: str | None) -> Recogniser:
        """A version that passed its checks; `digest` is that of its bundle where it is known.

        Raises VersionRefused, and ServiceUnavailable when the registry is away.
        """
        try:
            recogniser = Recogniser.load(self._fetch(version, digest), self._precision)
            _warm_up(recogniser)
        except ServiceUnavailable:
            raise
        except Exception as error:  # a model file may make the runtime raise anything
            raise VersionRefused(
                f"Version {version} failed its checks and takes no traffic: {error}"
            ) from error
        return recogniser

    def _fetch(self, version: str, digest: str | None) -> Path:
        """The bundle: the copy that served before a restart, or else what the registry has.

        A restart needs no registry so: the stored digest vouches for the copy.
        """
        if digest is not None:
            copy = self._cache / digest
            try:
                if verify(copy).digest == digest:
                    return copy
            except IntegrityError as error:
                log.warning("The registry is asked for version %s again: %s", version, error)
        return self.registry().fetch(version, self._cache)


def loader(settings: Settings, own: ServerSettings) -> Loader:
    """Loads versions from the settings' registry."""
    registry = cache(lambda: composition.registry(settings))
    return Loader(registry, settings.cache / "models", own.precision)


def _warm_up(recogniser: Recogniser) -> None:
    """Let a version answer noise of several lengths. Raises VersionRefused for a wrong answer."""
    noise = np.random.default_rng(0)
    for seconds in WARM_UP_SECONDS:
        samples = noise.normal(0, 0.05, int(seconds * SAMPLE_RATE)).astype(np.float32)
        confidence = recogniser.transcribe(samples).confidence
        if not (math.isfinite(confidence) and 0 <= confidence <= 1):
            raise VersionRefused(
                f"it answered {seconds} s of noise with confidence {confidence}, which is no "
                "number from 0 to 1."
            )
