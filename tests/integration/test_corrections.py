"""Corrections through HTTP into real stores, weighed by a recogniser that was really trained."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pytest
import torch
from fastapi import FastAPI

from hearloop import composition
from hearloop.architecture import Architecture
from hearloop.audio import Samples, digest, encode_flac
from hearloop.config import Settings
from hearloop.corpora.synthetic import calls
from hearloop.events import Transcription
from hearloop.export import write_bundle
from hearloop.features import log_mel
from hearloop.feedback import request_uri
from hearloop.model import Network
from hearloop.recipe import PerSplit, SyntheticCorpus, TrainingConfig
from hearloop.recogniser import Recogniser
from hearloop.stack import Ports
from hearloop.storage.corrections import SqlCorrectionStore
from hearloop.storage.events import KafkaEventReader
from hearloop.storage.objects import S3Objects
from hearloop.tokenizer import Tokenizer
from hearloop.training import batches
from hearloop.training.batches import Example
from hearloop.training.loop import Trainer
from serving import review
from serving.feedback import create_app, desk, learning
from tests.unit.serving.assembled import OPEN, served

pytestmark = pytest.mark.stack

CALLS, EACH = 12, 4
STEPS = 360
"""About 8 s on one core. Hardly a word comes out right, and yet the audio prefers what was said."""

CORRECTIONS = "/feedback/v1/corrections"


def application(settings: Settings, recogniser: Recogniser) -> FastAPI:
    """The feedback service alone, with tokens asked of nobody."""
    reviews = review.queue(settings, recogniser.plausibilities)
    return create_app(desk(settings, recogniser.plausibilities), reviews, OPEN, learning(None))


@dataclass(frozen=True)
class Heard:
    """One utterance that the server answered."""

    request_id: str
    call: str
    said: str


@pytest.fixture(scope="module")
def spoken() -> list[tuple[str, str, Samples]]:
    """Call, text and samples of each utterance."""
    corpus = SyntheticCorpus(
        seed=5,
        speakers=PerSplit(train=CALLS, dev=0, test=0),
        utterances_per_speaker=PerSplit(train=EACH, dev=0, test=0),
    )
    return [
        (call.call, text, samples)
        for call in calls(corpus, "train", CALLS, EACH)
        for text, samples in call.utterances
    ]


@pytest.fixture(scope="module")
def recogniser(
    spoken: Sequence[tuple[str, str, Samples]], tmp_path_factory: pytest.TempPathFactory
) -> Recogniser:
    """A small recogniser, trained for a moment on the very callers, as they are."""
    tokenizer = Tokenizer()
    examples = [
        Example(
            id=str(number), features=log_mel(samples), ids=tuple(tokenizer.encode(text)), text=text
        )
        for number, (_, text, samples) in enumerate(spoken)
    ]
    config = TrainingConfig(steps=STEPS, peak_learning_rate=5e-3, batch_seconds=12.0)
    torch.manual_seed(0)
    network = Network(
        Architecture(vocabulary=len(tokenizer), front_channels=64, hidden=128, layers=1)
    )
    frames = np.concatenate([example.features for example in examples])
    network.mean.copy_(torch.from_numpy(frames.mean(axis=0)))
    network.deviation.copy_(torch.from_numpy(frames.std(axis=0)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batches, "augment", lambda features, rng, augmentation: features)
        trainer = Trainer(network, examples, config)
        while trainer.steps_done < STEPS:
            trainer.step()
    torch.set_num_threads(threads)
    bundle = tmp_path_factory.mktemp("recogniser") / "bundle"
    write_bundle(bundle, network, tokenizer, training="a test")
    return Recogniser.load(bundle)


@pytest.fixture
def settings(broker: Settings, tmp_path: Path) -> Settings:
    """The session's services, with a database of the test's own."""
    return broker.model_copy(update={"database_url": f"sqlite:///{tmp_path}/hearloop.db"})


@pytest.fixture
def store(settings: Settings) -> SqlCorrectionStore:
    return composition.correction_store(settings)


def answer(
    objects: S3Objects, settings: Settings, request_id: str, call: str, samples: Samples, text: str
) -> None:
    """Leave behind what the model server leaves behind when it has answered."""
    flac = encode_flac(samples)
    audio_uri = f"s3://{settings.buckets.audio}/audio/{digest(flac)}.flac"
    transcription = Transcription(
        event_id=request_id,
        request_id=request_id,
        call=call,
        speaker=None,
        model_version="1",
        audio_uri=audio_uri,
        audio_seconds=len(samples) / 16_000,
        text=text,
        confidence=0.1,
        words=len(text.split()),
        received_at=datetime.now(UTC).isoformat(),
    )
    objects.put(audio_uri, flac)
    body = json.dumps(transcription.to_json()).encode()
    objects.put(request_uri(settings.buckets.audio, request_id), body)


@pytest.fixture
def heard(
    spoken: Sequence[tuple[str, str, Samples]],
    object_store: S3Objects,
    settings: Settings,
) -> list[Heard]:
    """Every utterance under a request id and in a call of this test's own.

    It was answered without its last word, so that there is something to correct.
    """
    run = uuid4().hex[:8]
    found = []
    for number, (call, said, samples) in enumerate(spoken):
        one = Heard(f"{run}-{number}", f"{run}-{call}", said)
        hypothesis = said.rpartition(" ")[0]
        answer(object_store, settings, one.request_id, one.call, samples, hypothesis)
        found.append(one)
    return found


@pytest.fixture
def client(settings: Settings, recogniser: Recogniser) -> Iterator[httpx.Client]:
    with served(application(settings, recogniser)) as made:
        yield made


def post(client: httpx.Client, heard: Heard, contributor: str, text: str) -> str:
    body = {"request_id": heard.request_id, "text": text, "contributor": contributor}
    response = client.post(CORRECTIONS, json=body)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def published(settings: Settings, ids: set[str]) -> list[tuple[str, str]]:
    """Key and id of each event of these corrections; waits for all of them."""
    topic = settings.kafka.corrections_topic
    reader = KafkaEventReader(settings, group=uuid4().hex, topics=[topic])
    found: list[tuple[str, str]] = []
    deadline = time.monotonic() + 60
    try:
        while {event_id for _, event_id in found} < ids and time.monotonic() < deadline:
            found += [
                (event.key, event.value["id"])
                for event in reader.poll(1.0)
                if event.value["id"] in ids
            ]
    finally:
        reader.close()
    return found


def test_what_was_said_passes_and_swapped_transcripts_do_not(
    client: httpx.Client, heard: list[Heard], store: SqlCorrectionStore, settings: Settings
) -> None:
    """Four contributors correct eight calls; a fifth gives each of four calls the next one's."""
    honest, others = heard[: 8 * EACH], heard[8 * EACH :]
    clean = [
        post(client, one, f"c{number // EACH % 4}", one.said) for number, one in enumerate(honest)
    ]
    swapped = [*others[EACH:], *others[:EACH]]
    wrong = [post(client, one, "eve", of.said) for one, of in zip(others, swapped, strict=True)]

    store.screen()

    listed = client.get(CORRECTIONS, params={"status": "accepted", "limit": 500}).json()
    accepted = {one["id"] for one in listed["corrections"]}
    assert not accepted & set(wrong)
    left_out = [(one.status, one.reason) for one in map(store.get, clean) if one.id not in accepted]
    assert len(left_out) <= 0.1 * len(clean), left_out
    reasons = {client.get(f"{CORRECTIONS}/{one}").json()["reason"] for one in wrong}
    assert len(reasons) == 1
    assert "contributor eve" in reasons.pop()
    assert sum(one.audio_seconds for one in store.list(statuses=["accepted"])) == pytest.approx(
        sum(one["audio_seconds"] for one in listed["corrections"])
    )

    events = published(settings, {*clean, *wrong})
    assert {event_id for _, event_id in events} == {*clean, *wrong}
    call_of = {one.id: one.call for one in store.list()}
    assert all(key == call_of[event_id] for key, event_id in events)
    assert not store.unpublished(1)


def test_kept_while_the_event_log_is_away(
    settings: Settings, recogniser: Recogniser, heard: list[Heard], store: SqlCorrectionStore
) -> None:
    nowhere = settings.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    cut_off = settings.model_copy(update={"kafka": nowhere})
    with served(application(cut_off, recogniser)) as client:
        kept = post(client, heard[0], "ada", heard[0].said)
        assert client.get(f"{CORRECTIONS}/{kept}").status_code == 200
    assert [one.id for one in store.unpublished(9)] == [kept]

    with served(application(settings, recogniser)) as client:
        later = post(client, heard[1], "ada", heard[1].said)
    assert {event_id for _, event_id in published(settings, {kept, later})} == {kept, later}
    assert not store.unpublished(1)


def test_runs_alone(settings: Settings, heard: list[Heard], tmp_path: Path) -> None:
    """`python -m serving.feedback`, before there is any champion: what comes in waits."""
    port = Ports.free().serving
    log = tmp_path / "feedback.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "serving.feedback", "--port", str(port)],
            env=os.environ | settings.to_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", transport=httpx.HTTPTransport(retries=8)
        ) as client,
    ):
        try:
            assert client.get("/healthz", timeout=60).json() == {"status": "ok"}, log.read_text()
            kept = post(client, heard[0], "ada", heard[0].said)
            assert client.get(f"{CORRECTIONS}/{kept}").json()["status"] == "waiting"
            unknown = {"request_id": "never", "text": "hello", "contributor": "ada"}
            assert client.post(CORRECTIONS, json=unknown).status_code == 404
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert process.returncode in (0, -signal.SIGTERM), log.read_text()
