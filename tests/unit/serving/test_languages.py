"""A model of another language: what it hears is asked for, and answered, in that language."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI, BadRequestError

from hearloop.cli import app
from hearloop.config import Settings
from hearloop.errors import InvalidInput
from hearloop.hotwords import Hotword
from hearloop.phrase_store import PhraseStore
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from serving.languages import check_asked, spoken_name
from serving.settings import ServerSettings, TenantSettings
from serving.versions import Versions
from tests.bundles import write_random_bundle
from tests.unit.serving.assembled import FILE, FLAC, Server, Shelf, assembled, heard, refusal

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated"),
]

SENT = ("speech.flac", FLAC)
PHRASES = {"Più 2": 30.0}
"""A tenant's, which English would spell `piu two`."""


@pytest.fixture(scope="module")
def italian(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    folder = tmp_path_factory.mktemp("bundles") / "italian"
    made = write_random_bundle(folder, 4, language="it", symbols="deipuù ")
    return Recogniser.load(made)


@pytest.fixture
def serving(tmp_path: Path, shelf: Shelf, italian: Recogniser) -> Iterator[Server]:
    own = ServerSettings(
        _env_file=None,  # type: ignore[call-arg]
        default_tenant=TenantSettings(hotwords=PHRASES),
    )
    with assembled(tmp_path, shelf, own) as server:
        server.versions.swap(Traffic(stable="1"), {"1": italian})
        yield server


@pytest.fixture
async def client(serving: Server) -> AsyncIterator[AsyncOpenAI]:
    base_url = f"{serving.client.base_url}/openai/v1"
    async with AsyncOpenAI(api_key="any", base_url=base_url, max_retries=0) as made:
        yield made


async def test_phrases_are_spelt_and_heard_in_the_models_language(
    client: AsyncOpenAI, italian: Recogniser
) -> None:
    tenants, asked = Hotword(phrase="più due", boost=30.0), Hotword(phrase="e più")
    heeded = italian.transcribe(heard(), hotwords=[asked, tenants]).text
    assert "più due" in heeded
    for language in ("it", "it-CH"):
        answer = await client.audio.transcriptions.create(
            file=SENT, model="hearloop", language=language, keywords=["E più!"]
        )
        assert answer.text == heeded
    told = await client.audio.transcriptions.create(
        file=SENT, model="hearloop", response_format="verbose_json"
    )
    assert told.language == "italian"


async def test_another_language_is_refused_in_a_sentence(
    serving: Server, client: AsyncOpenAI
) -> None:
    with pytest.raises(BadRequestError, match=r"'en' is not served; the model hears 'it'"):
        await client.audio.transcriptions.create(file=SENT, model="hearloop", language="en")
    with pytest.raises(BadRequestError, match="'fr' is not served"):
        await client.audio.transcriptions.create(
            file=SENT, model="hearloop", languages=["fr", "es"]
        )
    answer = serving.client.post(FILE, files={"file": FLAC}, data={"language": "x" * 1000})
    assert (answer.status_code, len(refusal(answer)) < 120) == (400, True)


async def test_a_session_tells_its_language_and_takes_no_other(client: AsyncOpenAI) -> None:
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        first = await connection.recv()
        for language, answered in (("it", "session.updated"), ("en", "error")):
            transcription = {"languages": [language], "keywords": ["Più 2"]}
            await connection.session.update(
                session={
                    "type": "transcription",
                    "audio": {"input": {"transcription": transcription}},
                }  # type: ignore[typeddict-item]
            )
            told = await connection.recv()
            assert told.type == answered
    assert first.session.audio.input.transcription.language == "it"
    assert told.error.type == "invalid_request_error"
    assert "the model hears 'it'" in told.error.message


def test_without_a_model_the_settings_tell_the_language(italian: Recogniser) -> None:
    versions = Versions(language="fr")
    assert versions.language == "fr"
    versions.swap(Traffic(stable="1"), {"1": italian})
    assert versions.language == "it"


def test_tags_of_one_language_are_one_and_no_tag_asks_for_nothing() -> None:
    for asked in (None, "", "es", "es-MX", "ES_ar"):
        check_asked([asked], "es-ES")
    check_asked(["it", "es"], "es-ES")
    for wrong in ("e", "est", 5, ["es"]):
        with pytest.raises(InvalidInput):
            check_asked([wrong], "es-ES")
    assert [spoken_name(tag) for tag in ("en", "es-MX", "ru")] == ["english", "spanish", "russian"]


def test_a_tenants_phrases_are_put_in_the_language_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put: list[object] = []
    monkeypatch.setattr(PhraseStore, "put_tenant", lambda _, *given: put.append(given))
    monkeypatch.setenv("HEARLOOP_FEAST_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HEARLOOP_LANGUAGE", "it")
    assert Settings().language == "it"
    app(["phrases", "acme", *PHRASES, "--boost", "30"], standalone_mode=False)
    assert put == [("acme", {"più due": 30.0})]
