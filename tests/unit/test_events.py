import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.errors import InvalidInput
from hearloop.events import Transcription, event_id

GOOD = {
    "event_id": event_id("r1", "ab" * 32),
    "request_id": "r1",
    "call": "call-1",
    "speaker": None,
    "model_version": "3",
    "audio_uri": "s3://hearloop-audio/audio/ab.flac",
    "audio_seconds": 2.5,
    "text": "please order two lamps",
    "confidence": 0.93,
    "words": 4,
    "received_at": "2025-01-31T12:00:00+00:00",
}


@settings(deadline=None, derandomize=True)
@given(text=st.text(), confidence=st.floats(0, 1), seconds=st.floats(0, 1e4))
def test_an_event_survives_json(text: str, confidence: float, seconds: float) -> None:
    event = Transcription.from_json(
        GOOD | {"text": text, "confidence": confidence, "audio_seconds": seconds}
    )
    assert Transcription.from_json(json.loads(json.dumps(event.to_json()))) == event


def test_fields_of_a_newer_server_are_ignored() -> None:
    assert Transcription.from_json(GOOD | {"channel": "web"}) == Transcription.from_json(GOOD)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("confidence", 1.2),
        ("confidence", float("nan")),
        ("audio_seconds", -1.0),
        ("audio_seconds", float("inf")),
        ("words", -1),
        ("received_at", "yesterday"),
        ("received_at", "2025-01-31T12:00:00"),
        ("call", None),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=field):
        Transcription.from_json(GOOD | {field: value})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidInput, match="model_version"):
        Transcription.from_json({k: v for k, v in GOOD.items() if k != "model_version"})


def test_a_retry_keeps_its_name_and_another_request_has_another() -> None:
    assert event_id("r1", "aa") == event_id("r1", "aa")
    assert len({event_id("r1", "aa"), event_id("r2", "aa"), event_id("r1", "bb")}) == 3
