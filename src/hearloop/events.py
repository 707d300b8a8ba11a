"""What travels over the event log: one event for each answered utterance.

The audio itself stays in object storage; an event carries its URI. Events are keyed by call, so
that one partition holds all utterances of a call in the order in which they were answered.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from hearloop.errors import InvalidInput, first_mistake

__all__ = ["Transcription", "event_id"]


def event_id(request_id: str, audio_digest: str) -> str:
    """SHA-256 (hex) that names the answer to one request; a retried request keeps its name."""
    return hashlib.sha256(f"{request_id}|{audio_digest}".encode()).hexdigest()


def _with_offset(value: str) -> str:
    if datetime.fromisoformat(value).tzinfo is None:
        raise ValueError("a time needs its offset from UTC, as in 2025-01-31T12:00:00+00:00")
    return value


@dataclass(frozen=True, kw_only=True)
class Transcription:
    """One utterance that the deployed model answered."""

    event_id: str
    request_id: str
    call: str
    """The call (session) that the utterance belongs to: the unit of every test."""
    speaker: str | None
    model_version: str
    audio_uri: str
    """Where the audio is stored, `s3://bucket/audio/<sha256>.flac`."""
    audio_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    text: str
    confidence: Annotated[float, Field(ge=0, le=1)]
    """Mean confidence of the words, 0 to 1; 0 when nothing was heard."""
    words: Annotated[int, Field(ge=0)]
    received_at: Annotated[str, AfterValidator(_with_offset)]
    """ISO 8601 with offset, by the clock of the server that answered."""
    tenant: str = ""
    """Whose caller it was; empty where there are no tenants."""

    def to_json(self) -> dict[str, Any]:
        """The event as JSON values; `from_json` gives an equal event."""
        return dict(self.__dict__)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Transcription":
        """Read an event; fields that a newer server added are ignored.

        Raises InvalidInput that names the first wrong field.
        """
        try:
            return _ADAPTER.validate_python(dict(value))
        except ValidationError as error:
            raise InvalidInput(
                f"A transcription event is {first_mistake(error, 'the event')}; "
                "the server that wrote it and the monitor that reads it must agree on its fields."
            ) from error


_ADAPTER: TypeAdapter[Transcription] = TypeAdapter(Transcription)
