"""Who asks: the request, the call that it belongs to and the speaker, from the headers.

    x-request-id        names the answer; made up when absent, and returned with every answer
    x-hearloop-call     the call (session): its utterances stay on one model version
    x-hearloop-speaker  the speaker, where the caller knows
    x-hearloop-consent  yes or no: whether the recording may be kept; absent: as the tenant's
                        contract says

The tenant is what the token says: the gate writes it over whatever a client sent.

The values become keys of objects and events, so only a plain alphabet is taken.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from hearloop.errors import InvalidInput

__all__ = [
    "CALL",
    "CONFIDENCE",
    "CONSENT",
    "MODEL_VERSION",
    "REQUEST_ID",
    "SPEAKER",
    "TENANT",
    "Caller",
]

REQUEST_ID = "x-request-id"
CALL = "x-hearloop-call"
SPEAKER = "x-hearloop-speaker"
CONSENT = "x-hearloop-consent"
TENANT = "x-hearloop-tenant"
TRACE = ("traceparent", "tracestate")
MODEL_VERSION = "x-hearloop-model-version"
CONFIDENCE = "x-hearloop-confidence"

NAME = re.compile(r"[A-Za-z0-9+][A-Za-z0-9._@+-]{0,119}")
"""Telephone numbers and addresses are names too. 120 characters: a multi-utterance request may add
`-<number>` and stay within 128."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Names of one request."""

    request_id: str
    call: str | None = None
    speaker: str | None = None
    tenant: str = ""
    consent: bool = True
    """Whether the recording may be kept; the gate says so where the caller said nothing."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """Headers that name the caller's trace (W3C Trace Context)."""

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self:
        """Read the headers (lower-case names). Raises InvalidInput for a name we cannot store."""
        return cls(
            request_id=_name(headers, REQUEST_ID) or str(uuid.uuid4()),
            call=_name(headers, CALL),
            speaker=_name(headers, SPEAKER),
            tenant=headers.get(TENANT, ""),
            consent=_yes(headers, CONSENT),
            trace={name: headers[name] for name in TRACE if name in headers},
        )

    def numbered(self, count: int) -> list[Self]:
        """One caller for each of `count` utterances of the request, with request ids of their own.

        A request with one utterance keeps its id.
        """
        if count == 1:
            return [self]
        return [replace(self, request_id=f"{self.request_id}-{n}") for n in range(1, count + 1)]


def _name(headers: Mapping[str, str], header: str) -> str | None:
    value = headers.get(header, "")
    if value and not NAME.fullmatch(value):
        raise InvalidInput(
            f"The header {header} is {value[:40]!r}; use 1 to 120 letters, digits and . _ @ + - "
            "and begin with a letter, a digit or +."
        )
    return value or None


def _yes(headers: Mapping[str, str], header: str) -> bool:
    value = headers.get(header, "yes").lower()
    if value not in ("yes", "no"):
        raise InvalidInput(f"The header {header} is {value[:40]!r}; send yes or no.")
    return value == "yes"
