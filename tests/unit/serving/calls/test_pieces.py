"""Messages of the audio and transcripts topics."""

import json
from typing import Any

import pytest
from confluent_kafka import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.errors import InvalidInput
from serving.calls.pieces import Place, Record, piece, record
from serving.pcm import Pcm


class Sent:
    """A message as librdkafka would hand it over; its own cannot be made up."""

    def __init__(self, key: bytes | None, value: bytes | None, headers: Any = None) -> None:
        self._parts = {"key": key, "value": value, "headers": headers, "partition": 2, "offset": 7}

    def __getattr__(self, name: str) -> Any:
        return lambda: self._parts[name]


def sent(key: bytes | None, value: bytes | None, **headers: bytes) -> Message:
    return Sent(key, value, list(headers.items()))  # type: ignore[return-value]


def test_a_piece_with_all_its_headers() -> None:
    found = piece(sent(b"call-1", b"ab", format=b"audio/pcm; rate=8000", sequence=b"3", last=b"1"))
    assert (found.place, found.call) == (Place(partition=2, offset=7), "call-1")
    assert (found.pcm, found.sequence, found.last) == (Pcm(rate=8000), 3, True)


@pytest.mark.parametrize(
    ("header", "consent"), [(b"yes", True), (b"YES", True), (b"no", False), (b"perhaps", False)]
)
def test_what_is_no_yes_is_no_consent(header: bytes, consent: bool) -> None:
    assert piece(sent(b"c", b"", consent=header)).consent is consent
    assert piece(sent(b"c", b"")).consent is None


def test_the_key_names_the_tenant_and_headers_the_speaker_and_the_trace() -> None:
    found = piece(sent(b"acme/call-1", b"", speaker=b"anna", traceparent=b"00-1-2-01"))
    assert (found.tenant, found.call, found.key) == ("acme", "call-1", "acme/call-1")
    assert (found.speaker, found.trace) == ("anna", {"traceparent": "00-1-2-01"})
    alone = piece(sent(b"call-1", b""))
    assert (alone.tenant, alone.key, alone.speaker, alone.trace) == ("", "call-1", None, {})


def test_a_piece_without_any() -> None:
    found = piece(sent(b"call-1", None))
    assert (found.audio, found.pcm, found.sequence, found.last) == (
        b"",
        Pcm(rate=16_000),
        None,
        False,
    )
    assert piece(sent(b"c", b"", format=b"audio/pcmu")).pcm.encoding == "audio/pcmu"


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        (None, {}),
        (b"../etc", {}),
        (b"\xff", {}),
        (b"/call-1", {}),
        (b"acme/", {}),
        (b"a/b/c", {}),
        (b"c", {"speaker": b"anna|acme"}),
        (b"c", {"format": b"audio/mp3"}),
        (b"c", {"format": b"audio/pcm;rate=44100"}),
        (b"c", {"sequence": b"-1"}),
    ],
)
def test_what_is_no_piece_is_refused(key: bytes | None, headers: dict[str, bytes]) -> None:
    with pytest.raises(InvalidInput):
        piece(sent(key, b"ab", **headers))


@settings(deadline=None, derandomize=True)
@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_a_transcript_or_refused(value: bytes) -> None:
    with pytest.raises(InvalidInput):
        record(sent(b"c", value))


def test_a_transcript_is_read_as_it_was_written() -> None:
    written = Record(
        call="c", tenant="acme", began=Place(partition=2, offset=5), kind="ended", number=3,
        model_version="1", start_s=0.0, end_s=9.5, until=7,
    )  # fmt: skip
    assert record(sent(b"c", written.to_json())) == written


def test_a_transcript_from_before_there_were_tenants_is_read() -> None:
    written = Record(
        call="c", began=Place(partition=2, offset=5), kind="ended", number=3, model_version="1",
        start_s=0.0, end_s=9.5, until=7,
    )  # fmt: skip
    body = json.loads(written.to_json())
    assert body.pop("tenant") == ""
    assert record(sent(b"c", json.dumps(body).encode())) == written
