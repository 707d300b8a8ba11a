"""A store of phrases that is late, away or wrong holds no request up."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from hearloop.corrections import Correction, correct
from hearloop.errors import InvalidInput
from hearloop.events import Transcription
from hearloop.hotwords import MOST_HOTWORDS, Hotword
from hearloop.phrase_store import PhraseStore
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from hearloop.tokenizer import Tokenizer
from serving import phrases as module
from serving.caller import Caller
from serving.feedback import learning
from serving.phrases import DEADLINE_S, Phrases
from serving.settings import ServerSettings, TenantSettings
from tests.unit.serving.assembled import (
    FILE,
    FLAC,
    Shelf,
    assembled,
    heard,
    refusal,
    served,
)

pytestmark = pytest.mark.anyio

ANNA = Caller(request_id="r", tenant="acme", speaker="anna")
AWAY = "http://127.0.0.1:9"
LETTERS = Tokenizer()
CONTRACT = {"bonus fund": 2.0}


@pytest.fixture
def slow() -> Iterator[str]:
    """A feature server that takes seconds."""
    app = FastAPI()

    @app.post("/get-online-features")
    async def ask() -> None:
        await asyncio.sleep(2)

    with served(app) as client:
        yield str(client.base_url)


def asked(outcome: str) -> float:
    return REGISTRY.get_sample_value("hearloop_phrases_total", {"outcome": outcome}) or 0.0


async def test_what_is_late_is_done_without_and_counted(slow: str) -> None:
    phrases = Phrases(lambda _: TenantSettings(hotwords=CONTRACT), PhraseStore(slow))
    before, began = asked("late"), time.monotonic()
    assert await phrases.of(ANNA) == CONTRACT
    assert time.monotonic() - began < 20 * DEADLINE_S
    assert asked("late") == before + 1


def test_a_request_is_answered_while_the_store_hangs(
    slow: str, tmp_path: Path, shelf: Shelf, recognisers: dict[str, Recogniser],
    expected: dict[str, str],
) -> None:  # fmt: skip
    with assembled(tmp_path, shelf, phrase_store=PhraseStore(slow)) as server:
        server.versions.swap(Traffic(stable="1"), recognisers)
        headers, before = {"x-hearloop-speaker": "anna"}, asked("late")
        answer = server.client.post(FILE, files={"file": FLAC}, headers=headers)
    assert (answer.status_code, answer.json()["text"]) == (200, expected["1"])
    assert asked("late") == before + 1


async def test_a_store_that_is_away_is_done_without(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEADLINE_S", 10.0)
    phrases, before = Phrases(lambda _: TenantSettings(), PhraseStore(AWAY)), asked("failed")
    assert await phrases.of(ANNA) == {}
    assert asked("failed") == before + 1
    assert "did not answer" in caplog.text


def expected(*keywords: str, known: Mapping[str, float] | None = None) -> tuple[Hotword, ...]:
    phrases = Phrases(lambda _: TenantSettings())
    return phrases.hotwords(keywords, known or {}, ANNA, LETTERS)


def test_only_the_requests_own_keywords_are_a_mistake() -> None:
    found = expected("Bonus Fund", known={"bonus fund": 9.0, "a|b": 3.0, "abc": 2.0})
    assert [(one.phrase, one.boost) for one in found] == [
        ("bonus fund", Hotword.boost),
        ("abc", 2.0),
    ]
    with pytest.raises(InvalidInput, match="cannot be listened for"):
        expected("[noise]")
    many = {f"word {'a' * number}": 1.0 for number in range(2 * MOST_HOTWORDS)}
    assert len(expected("abc", known=many)) == MOST_HOTWORDS


def test_a_phrase_that_the_model_cannot_write_is_left_out_counted_and_told_once(
    tmp_path: Path, shelf: Shelf, recognisers: dict[str, Recogniser],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    own = ServerSettings(
        _env_file=None,  # type: ignore[call-arg]
        default_tenant=TenantSettings(hotwords={"abab": 3.0, "zebra": 4.0, "[noise]": 5.0}),
    )
    with assembled(tmp_path, shelf, own) as server:
        server.versions.swap(Traffic(stable="1"), recognisers)
        before = left_out()
        answers = [server.client.post(FILE, files={"file": FLAC}) for _ in range(2)]
        wrong = server.client.post(FILE, files={"file": FLAC}, data={"keywords[]": "zebra"})
    heeded = recognisers["1"].transcribe(heard(), hotwords=[Hotword(phrase="abab", boost=3.0)])
    assert [one.json()["text"] for one in answers] == [heeded.text] * 2
    assert left_out() == before + 4
    assert len([one for one in caplog.messages if "left out" in one]) == 1
    assert "zebra" not in caplog.text
    assert (wrong.status_code, "'zebra'" in refusal(wrong)) == (400, True)


def left_out() -> float:
    return REGISTRY.get_sample_value("hearloop_phrases_left_out_total") or 0.0


class Learnt(PhraseStore):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(AWAY)
        self.told: list[tuple[str, ...]] = []

    def learn(self, tenant: str, speaker: str, words: object) -> None:
        self.told.append((tenant, speaker, *words))  # type: ignore[misc]


def test_a_speakers_history_is_what_corrections_show_to_be_missed() -> None:
    store = Learnt()
    learn = learning(store)
    for speaker, said in (("anna", "pay worthington now"), ("anna", "pay"), (None, "b")):
        learn("acme", correction(speaker, "pay now", said))
    assert store.told == [("acme", "anna", "worthington")]
    learning(PhraseStore(AWAY))("acme", correction("anna", "", "a"))


def correction(speaker: str | None, hypothesis: str, text: str) -> Correction:
    answered = Transcription(
        event_id="e",
        request_id="r",
        call="c",
        speaker=speaker,
        model_version="1",
        audio_uri="s3://a/b",
        audio_seconds=1.0,
        text=hypothesis,
        confidence=0.5,
        words=1,
        received_at="2026-01-01T00:00:00.000+00:00",
    )
    return correct(answered, text=text, contributor="ada", received_at=answered.received_at)
