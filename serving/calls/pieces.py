"""Messages of the two topics: pieces of calls, and what was said in them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from confluent_kafka import Message

from hearloop.decoding import Transcript
from hearloop.errors import InvalidInput
from serving.caller import NAME, TRACE
from serving.pcm import RATES, Pcm

__all__ = ["Piece", "Place", "Record", "piece", "record"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a call begins in the audio topic: its name for ever, however often it is read."""

    partition: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A message of the audio topic."""

    place: Place
    call: str
    tenant: str = ""
    speaker: str | None = None
    audio: bytes
    pcm: Pcm
    sequence: int | None
    last: bool
    consent: bool | None = None
    """None where nothing is said."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """Headers that name the trace of the call."""

    @property
    def key(self) -> str:
        """Names the call among those of all tenants."""
        return _key(self.tenant, self.call)


@dataclass(frozen=True, kw_only=True)
class Record:
    """A message of the transcripts topic."""

    call: str
    tenant: str = ""
    began: Place
    kind: Literal["final", "ended"]
    number: int
    """Of the utterance in its call, from 0; of an end: how many there were."""
    model_version: str
    phrases: str = ""
    """Names the phrases that were expected."""
    start_s: float
    end_s: float
    until: int
    """Offset of the last piece that had been read."""
    transcript: Transcript | None = None

    @property
    def key(self) -> str:
        """That of the call's pieces."""
        return _key(self.tenant, self.call)

    @property
    def id(self) -> str:
        """SHA-256 (hex) of the call's beginning and the number: the same each time."""
        name = f"{self.began.partition}|{self.began.offset}|{self.call}|{self.kind}|{self.number}"
        return hashlib.sha256(name.encode()).hexdigest()

    def to_json(self) -> bytes:
        """The value of the message."""
        body: dict[str, Any] = {
            "id": self.id,
            "call": self.call,
            "tenant": self.tenant,
            "began": self.began.offset,
            "kind": self.kind,
            "number": self.number,
            "model_version": self.model_version,
            "phrases": self.phrases,
            "start_s": self.start_s,
            "end_s": self.end_s,
            "until": self.until,
        }
        if self.transcript is not None:
            body |= {
                "text": self.transcript.text,
                "confidence": self.transcript.confidence,
                "words": [
                    {
                        "word": word.text,
                        "start": word.start_s,
                        "end": word.end_s,
                        "confidence": word.confidence,
                    }
                    for word in self.transcript.words
                ],
            }
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()


def piece(message: Message) -> Piece:
    """Read a message of the audio topic. Raises InvalidInput."""
    key = (message.key() or b"").decode(errors="replace")
    tenant, slash, call = key.rpartition("/")
    headers = _headers(message)
    speaker = headers.get("speaker") or None
    for name in (call, *([tenant] if slash else []), *([speaker] if speaker else [])):
        if not NAME.fullmatch(name):
            raise InvalidInput(
                f"The key or the speaker has {name[:40]!r}; name each tenant, call and speaker by "
                "1 to 120 letters, digits and . _ @ + -."
            )
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return Piece(
        place=Place(partition=partition, offset=offset),
        call=call,
        tenant=tenant,
        speaker=speaker,
        audio=message.value() or b"",
        pcm=_pcm(headers.get("format", "audio/pcm;rate=16000")),
        sequence=_sequence(headers.get("sequence")),
        last=headers.get("last") == "1",
        consent=headers["consent"].lower() == "yes" if "consent" in headers else None,
        trace={name: headers[name] for name in TRACE if name in headers},
    )


def record(message: Message) -> Record:
    """Read a message of the transcripts topic, without its words. Raises InvalidInput."""
    try:
        body: Mapping[str, Any] = json.loads(message.value() or b"")
        return Record(
            call=body["call"],
            tenant=body.get("tenant", ""),  # it and the phrases were absent once
            began=Place(partition=message.partition() or 0, offset=body["began"]),
            kind=body["kind"],
            number=body["number"],
            model_version=body["model_version"],
            phrases=body.get("phrases", ""),
            start_s=body["start_s"],
            end_s=body["end_s"],
            until=body["until"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"Not a transcript of a call: {error!r}.") from error


def _key(tenant: str, call: str) -> str:
    return f"{tenant}/{call}" if tenant else call


def _headers(message: Message) -> dict[str, str]:
    found: list[tuple[str, Any]] = list(message.headers() or [])  # type: ignore[arg-type]
    return {
        name: value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for name, value in found
    }


def _pcm(text: str) -> Pcm:
    kind, _, parameter = text.replace(" ", "").partition(";")
    if kind == "audio/pcmu":
        return Pcm(encoding="audio/pcmu", rate=8_000)
    if kind == "audio/pcma":
        return Pcm(encoding="audio/pcma", rate=8_000)
    rate = parameter.removeprefix("rate=")
    if kind != "audio/pcm" or not rate.isdecimal() or int(rate) not in RATES:
        raise InvalidInput(
            f"The format is {text[:40]!r}; send audio/pcm;rate= and one of {list(RATES)}, "
            "audio/pcmu or audio/pcma."
        )
    return Pcm(rate=int(rate))


def _sequence(text: str | None) -> int | None:
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    raise InvalidInput(f"The sequence is {text[:40]!r}; number the pieces of a call from 0.")
