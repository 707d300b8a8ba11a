"""The errors that Hearloop raises on purpose.

    HearloopError
    ├── ConfigurationError      a setting or recipe is wrong: the operator changes it
    ├── InvalidInput            what a caller or a data owner gave is wrong
    │   ├── InvalidAudio        bytes that are not speech we can decode
    │   └── InvalidTranscript   text that cannot be a transcript
    ├── DataError
    │   ├── NotFound            nothing is stored under that name
    │   ├── Conflict            somebody else wrote first
    │   ├── IntegrityError      stored bytes are not what their digest says
    │   ├── ValidationFailed    a snapshot breaks a critical expectation
    │   └── VersionRefused      a model version failed its checks and takes no traffic
    ├── ServiceUnavailable      a service we depend on did not answer
    │   └── Overloaded          the recogniser has as many live streams as it can keep up with
    └── TrainingFailed          a training worker ended without a model

Each message is one clear sentence: what is wrong, with which value, and what to do about it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = [
    "ConfigurationError",
    "Conflict",
    "DataError",
    "HearloopError",
    "IntegrityError",
    "InvalidAudio",
    "InvalidInput",
    "InvalidTranscript",
    "NotFound",
    "Overloaded",
    "ServiceUnavailable",
    "TrainingFailed",
    "ValidationFailed",
    "VersionRefused",
    "first_mistake",
]


class HearloopError(Exception):
    """Base of every error that Hearloop raises on purpose."""


class ConfigurationError(HearloopError):
    """A setting or a recipe is wrong; the operator has to change it."""


class InvalidInput(HearloopError):
    """What a caller or a data owner gave is wrong."""


class InvalidAudio(InvalidInput):
    """Bytes that are not speech we can decode."""


class InvalidTranscript(InvalidInput):
    """Text that cannot be the transcript of an utterance."""


class DataError(HearloopError):
    """Stored data is missing, contested or damaged."""


class NotFound(DataError):
    """Nothing is stored under that name."""


class Conflict(DataError):
    """Somebody else wrote first; read again before you retry."""


class IntegrityError(DataError):
    """Stored bytes are not what their digest says."""


class ValidationFailed(DataError):
    """A snapshot breaks a critical expectation."""


class VersionRefused(DataError):
    """A model version failed its checks before it could take traffic; the old one serves on."""


class ServiceUnavailable(HearloopError):
    """A service that we depend on did not answer."""


class Overloaded(ServiceUnavailable):
    """The recogniser has as many live streams as it can keep up with."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TrainingFailed(HearloopError):
    """A training worker ended without leaving a model."""


def first_mistake(error: "ValidationError", whole: str = "the document") -> str:
    """`wrong at FIELD: why`, of the first field that pydantic refused; `whole` where it is none."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or whole
    return f"wrong at {where}: {first['msg']}"
