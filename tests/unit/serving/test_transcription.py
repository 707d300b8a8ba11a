import io

import pytest
import soundfile

from hearloop.config import Settings
from tests.unit.serving.assembled import (
    FILE,
    FLAC,
    V1,
    Server,
    heard,
    instance,
    refusal,
)

pytestmark = pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated")  # KServe uses it


@pytest.mark.parametrize("response_format", ["json", "text", "verbose_json"])
def test_the_file_route_answers_in_each_format(
    serving: Server, expected: dict[str, str], response_format: str
) -> None:
    form = {"model": "hearloop", "language": "en", "response_format": response_format}
    headers = {"x-request-id": "r"}
    answer = serving.client.post(FILE, files={"file": FLAC}, data=form, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "r"
    assert answer.headers["x-hearloop-model-version"] == "1"
    if response_format == "text":
        assert answer.text == expected["1"]
        return
    body = answer.json()
    assert (body["text"], body["model_version"], body["request_id"]) == (expected["1"], "1", "r")
    assert body["confidence"] == pytest.approx(
        float(answer.headers["x-hearloop-confidence"]), abs=1e-4
    )
    if response_format == "verbose_json":
        assert body["duration"] == 1.0
        assert " ".join(word["word"] for word in body["words"]) == expected["1"]


def test_any_format_of_sound_is_read(serving: Server, expected: dict[str, str]) -> None:
    wav = io.BytesIO()
    soundfile.write(wav, heard(), 16_000, format="WAV", subtype="FLOAT")
    answer = serving.client.post(FILE, files={"file": wav.getvalue()})
    assert answer.json()["text"] == expected["1"]


def test_what_is_answered_is_logged_with_its_call_and_speaker(serving: Server) -> None:
    headers = {"x-hearloop-call": "call-7", "x-hearloop-speaker": "anna"}
    answer = serving.client.post(FILE, files={"file": FLAC}, headers=headers).json()
    reader = serving.events.reader("test", [Settings().kafka.transcriptions_topic])
    (event,) = reader.poll(10.0)
    assert event.key == "call-7"
    assert event.value["speaker"] == "anna"
    assert event.value["text"] == answer["text"]
    assert event.value["request_id"] == answer["request_id"]


@pytest.mark.parametrize(
    "body", [b"", b"no sound at all", FLAC[:200], b"RIFF\x00\x00\x00\x00WAVE" + b"\xff" * 100]
)
def test_what_is_no_recording_is_422_and_the_server_lives(serving: Server, body: bytes) -> None:
    assert serving.client.post(FILE, files={"file": body}).status_code == 422
    assert serving.client.post(V1, json={"instances": [instance(body)]}).status_code == 422
    assert serving.client.post(FILE, files={"file": FLAC}).status_code == 200


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"model": "whisper-1"}, 404),
        ({"language": "de"}, 400),
        ({"response_format": "diarized_json"}, 400),
    ],
)
def test_the_file_route_refuses_what_it_does_not_do(
    serving: Server, form: dict[str, str], status: int
) -> None:
    answer = serving.client.post(FILE, files={"file": FLAC}, data=form)
    assert answer.status_code == status
    refusal(answer)
