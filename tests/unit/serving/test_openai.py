"""The file route as the openai package sees it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openai import (
    APIStatusError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)

from hearloop.hotwords import Hotword
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from serving.settings import Grant, ServerSettings, TenantSettings
from tests.unit.serving.assembled import FLAC, LARGEST_FILE, Server, Shelf, assembled, heard

pytestmark = pytest.mark.anyio

FILE = ("speech.flac", FLAC)


@pytest.fixture
async def client(serving: Server) -> AsyncIterator[AsyncOpenAI]:
    base_url = f"{serving.client.base_url}/openai/v1"
    async with AsyncOpenAI(api_key="any", base_url=base_url, max_retries=0) as made:
        yield made


async def test_json_and_text(client: AsyncOpenAI, expected: dict[str, str]) -> None:
    transcriptions = client.audio.transcriptions
    answer = await transcriptions.create(file=FILE, model="hearloop")
    assert answer.text == expected["1"]
    text = await transcriptions.create(file=FILE, model="hearloop", response_format="text")
    assert text == expected["1"]


async def test_verbose_json_has_the_times_that_were_asked_for(
    client: AsyncOpenAI, expected: dict[str, str]
) -> None:
    answer = await client.audio.transcriptions.create(
        file=FILE,
        model="hearloop",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert answer.duration == pytest.approx(1.0)
    assert answer.language == "english"
    assert answer.words
    assert answer.segments
    assert " ".join(word.word for word in answer.words) == expected["1"]
    assert " ".join(one.text for one in answer.segments) == expected["1"]
    ends = [time for word in answer.words for time in (word.start, word.end)]
    assert ends == sorted(ends)
    only = await client.audio.transcriptions.create(
        file=FILE,
        model="hearloop",
        response_format="verbose_json",
        timestamp_granularities=["segment"],
    )
    assert only.words is None


async def test_subtitles_hold_the_text_and_its_times(
    client: AsyncOpenAI, expected: dict[str, str]
) -> None:
    srt = await client.audio.transcriptions.create(
        file=FILE, model="hearloop", response_format="srt"
    )
    vtt = await client.audio.transcriptions.create(
        file=FILE, model="hearloop", response_format="vtt"
    )
    assert srt.startswith("1\n00:00:0")
    assert " --> 00:00:0" in srt
    assert vtt.startswith("WEBVTT\n\n00:00:0")
    for one in (srt, vtt):
        assert expected["1"] in one.replace("\n", " ")


async def test_streamed_events_add_up_to_the_text(
    client: AsyncOpenAI, expected: dict[str, str]
) -> None:
    stream = await client.audio.transcriptions.create(file=FILE, model="hearloop", stream=True)
    events = [event async for event in stream]
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert "".join(deltas) == expected["1"]
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == expected["1"]


async def test_keywords_are_listened_for(
    client: AsyncOpenAI, recognisers: dict[str, Recogniser]
) -> None:
    recogniser = recognisers["1"]
    expect = [Hotword(phrase="abab")]
    answer = await client.audio.transcriptions.create(
        file=FILE, model="hearloop", keywords=["ABAB"]
    )
    assert answer.text == recogniser.transcribe(heard(), hotwords=expect).text
    with pytest.raises(APIStatusError) as caught:
        await client.audio.transcriptions.create(file=FILE, model="hearloop", keywords=["xyz"])
    assert caught.value.status_code == 400


async def test_refusals_reach_the_client_as_its_own_errors(client: AsyncOpenAI) -> None:
    with pytest.raises(NotFoundError) as missing:
        await client.audio.transcriptions.create(file=FILE, model="whisper-1")
    assert "is not served here" in missing.value.message
    with pytest.raises(UnprocessableEntityError) as caught:
        await client.audio.transcriptions.create(file=("a.wav", b"no sound"), model="hearloop")
    assert (caught.value.type, caught.value.code) == ("invalid_request_error", "audio")
    with pytest.raises(BadRequestError) as wrong:
        await client.audio.transcriptions.create(
            file=FILE,
            model="hearloop",
            response_format="diarized_json",
        )
    assert (wrong.value.param, wrong.value.code) == ("response_format", "request")


async def test_each_status_is_the_exception_that_the_package_has_for_it(
    tmp_path: Path, shelf: Shelf, recognisers: dict[str, Recogniser]
) -> None:
    grants = {
        "caller": Grant(tenant="acme", roles=frozenset({"transcribe"})),
        "boss": Grant(tenant="home", roles=frozenset({"admin"})),
    }
    own = ServerSettings(
        _env_file=None,  # type: ignore[call-arg]
        tokens=grants,
        tenants={"acme": TenantSettings(rate="2/minute")},
    )
    with assembled(tmp_path, shelf, own) as server:

        async def asked(token: str, file: tuple[str, bytes] = FILE) -> None:
            url = f"{server.client.base_url}/openai/v1"
            async with AsyncOpenAI(api_key=token, base_url=url, max_retries=0) as client:
                await client.audio.transcriptions.create(file=file, model="hearloop")

        with pytest.raises(AuthenticationError) as nobody:
            await asked("stranger")
        assert nobody.value.type == "authentication_error"
        with pytest.raises(PermissionDeniedError):
            await asked("boss")
        with pytest.raises(InternalServerError) as none:
            await asked("caller")
        assert (none.value.type, none.value.code) == ("server_error", "no_model")
        server.versions.swap(Traffic(stable="1"), recognisers)
        await asked("caller")
        with pytest.raises(RateLimitError) as fast:
            await asked("caller")
        assert fast.value.code == "rate_limit"
        assert int(fast.value.response.headers["retry-after"]) > 0


async def test_a_file_that_is_too_large_is_an_error_of_its_client(client: AsyncOpenAI) -> None:
    with pytest.raises(APIStatusError) as large:
        await client.audio.transcriptions.create(
            file=("a.wav", b"x" * (LARGEST_FILE + 1)), model="hearloop"
        )
    assert (large.value.status_code, large.value.code) == (413, "too_large")
