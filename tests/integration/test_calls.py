"""Calls through a real broker: heard by several members of a group, one of them killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from hearloop import composition
from hearloop.config import Settings
from hearloop.corpora.espeak import Voice, speak
from hearloop.features import SAMPLE_RATE, Samples
from hearloop.lineage import DatasetUse
from hearloop.recogniser import Recogniser
from hearloop.storage.events import create_topics
from hearloop.storage.objects import S3Objects
from hearloop.streaming import Engine, Event, Final
from tests.bundles import write_random_bundle

pytestmark = pytest.mark.stack

SENTENCES = ["transfer twenty pounds to anna", "pay the gas bill on monday", "call me at noon"]

CALLS = 6

PIECE = SAMPLE_RATE // 5
"""Samples of 200 ms."""


@pytest.fixture(scope="module")
def settings(
    broker: Settings,
    tracking: Settings,
    object_store: S3Objects,
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    """Settings with a champion and topics of the test's own."""
    home, name = tmp_path_factory.mktemp("calls"), uuid4().hex[:8]
    topics = {
        "call_audio_topic": f"audio-{name}",
        "call_transcripts_topic": f"transcripts-{name}",
    }
    own = tracking.model_copy(
        update={
            "model_name": f"calls-{name}",
            "cache": home / "cache",
            "kafka": broker.kafka.model_copy(update=topics),
        }
    )
    create_topics(own)
    registry = composition.registry(own)
    use = DatasetUse(context="train", snapshot="a" * 64, uri="s3://x/y", utterances=1, seconds=1.0)
    version = registry.register(
        write_random_bundle(home / "bundle", seed=1), run_id=registry.run(name), datasets=[use]
    )
    registry.promote(version)
    return own


@pytest.fixture(scope="module")
def calls() -> dict[str, Samples]:
    """What is said in each call: sentences with pauses that end an utterance."""
    pause = np.zeros(SAMPLE_RATE, np.float32)
    found = {}
    for number in range(CALLS):
        voice = Voice(accent="en-us", variant=f"m{number + 1}", rate=150, pitch=50, pitch_range=50)
        parts = [part for said in speak(voice, SENTENCES) for part in (0.5 * said, pause)]
        found[f"call-{number}"] = np.concatenate(parts)
    return found


@pytest.fixture(scope="module")
def expected(settings: Settings, calls: dict[str, Samples]) -> dict[str, list[str]]:
    """The utterances of each call, heard without any broker."""
    registry = composition.registry(settings)
    bundle = registry.fetch(registry.champion() or "", settings.cache / "models")
    engine = Engine(Recogniser.load(bundle, "int8"), most_streams=CALLS)
    heard: dict[str, list[Event]] = defaultdict(list)
    for call, samples in calls.items():
        stream = engine.open(heard[call].append)
        stream.accept(quantised(samples))
        stream.finish()
    engine.close(60.0)
    return {
        call: [event.transcript.text for event in events if isinstance(event, Final)]
        for call, events in heard.items()
    }


def quantised(samples: Samples) -> Samples:
    return (samples * 32767).astype("<i2").astype(np.float32) / np.float32(32768)


@contextmanager
def workers(settings: Settings, log: Path, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    with log.open("ab") as output:
        try:
            for _ in range(count):
                started.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "serving.calls"],
                        env={**os.environ, **settings.to_environment()},
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
            yield started
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(60)


def send(settings: Settings, calls: dict[str, Samples], share: slice) -> None:
    """Some of the pieces of each call, a piece of each in turn."""
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    for number in range(*share.indices(longest(calls))):
        for call, samples in calls.items():
            pieces = -(-len(samples) // PIECE)
            if number >= pieces:
                continue
            piece = samples[number * PIECE : (number + 1) * PIECE]
            producer.produce(
                settings.kafka.call_audio_topic,
                key=call,
                value=(piece * 32767).astype("<i2").tobytes(),
                headers={"sequence": str(number), "last": "1" if number == pieces - 1 else "0"},
            )
    assert producer.flush(30) == 0


def longest(calls: dict[str, Samples]) -> int:
    return max(-(-len(samples) // PIECE) for samples in calls.values())


class Reader:
    """All records of the transcripts topic so far."""

    def __init__(self, settings: Settings) -> None:
        self.records: list[dict[str, Any]] = []
        self._consumer = Consumer(
            {"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": uuid4().hex}
        )
        topic = settings.kafka.call_transcripts_topic
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(3)])

    def until(self, condition: Any, log: Path, seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition(self.records):
            assert time.monotonic() < deadline, (self.records, log.read_text()[-4000:])
            message = self._consumer.poll(0.2)
            if message is not None and message.error() is None:
                self.records.append(json.loads(message.value() or b""))

    def close(self) -> None:
        self._consumer.close()


def finals(records: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for one in records:
        if one["kind"] == "final":
            found[one["call"]].append(one["text"])
    return dict(found)


def ended(records: Sequence[dict[str, Any]]) -> list[str]:
    return sorted(one["call"] for one in records if one["kind"] == "ended")


def test_a_member_killed_amid_calls_loses_nothing_and_repeats_nothing(
    settings: Settings, calls: dict[str, Samples], expected: dict[str, list[str]], tmp_path: Path
) -> None:
    several = [call for call, said in expected.items() if len(said) > 1]
    assert len(several) >= 2, expected  # that is: something is published before the kill
    reader, log = Reader(settings), tmp_path / "workers.log"
    half = longest(calls) // 2
    with workers(settings, log, 1) as (first,):
        send(settings, calls, slice(0, half))
        reader.until(lambda records: len(finals(records)) >= 2, log)
        first.send_signal(signal.SIGKILL)
        first.wait(10)
    assert not ended(reader.records)
    with workers(settings, log, 2):
        send(settings, calls, slice(half, None))
        reader.until(lambda records: len(ended(records)) >= CALLS, log)
    # A third member, after two that have left in peace: nothing is left to say.
    with workers(settings, log, 1):
        more = {"late-call": next(iter(calls.values()))}
        send(settings, more, slice(0, None))
        reader.until(lambda records: "late-call" in ended(records), log)
    reader.close()
    said = finals(reader.records)
    assert said.pop("late-call") == expected["call-0"]
    assert said == expected
    assert ended(reader.records) == sorted([*calls, "late-call"])
    ids = [one["id"] for one in reader.records]
    assert len(set(ids)) == len(ids)
    logged = [
        json.loads(composition.objects(settings).get(uri))["call"]
        for uri in composition.objects(settings).list(
            f"s3://{settings.buckets.audio}/requests/call-"
        )
    ]
    assert {"late-call", *calls} >= set(logged) != set()
