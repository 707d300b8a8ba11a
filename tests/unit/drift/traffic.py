"""Calls to watch: callers, a deployment that answers them, people who correct the answers."""

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np

from hearloop import audio, quality
from hearloop.audio import SAMPLE_RATE, Samples
from hearloop.config import Settings
from hearloop.corrections import Evidence, correct
from hearloop.drift import signals
from hearloop.drift.policy import MonitorPolicy
from hearloop.drift.reference import ARTIFACT, Reference, ReferenceRow, build
from hearloop.drift.watch import Outside, Watch
from hearloop.errors import NotFound, ServiceUnavailable
from hearloop.events import Transcription, event_id
from hearloop.ports import EventLog, ObjectStore
from hearloop.recipe import CorrectionsCorpus, Recipe, TrainingConfig
from hearloop.storage.corrections import SqlCorrectionStore
from hearloop.storage.tables import Decisions, engine
from hearloop.testing import InMemoryEvents, InMemoryObjects

TOPIC = "hearloop.transcriptions"
BUCKET = "artifacts"
START = datetime(2025, 1, 31, 12, tzinfo=UTC)
SAID = "please order two lamps"
RECIPE = Recipe(
    name="retrain", corpora=(CorrectionsCorpus(up_to=0),), training=TrainingConfig(steps=1)
)


class Callers:
    """Speakers, each with a loudness, who say half a second of noise in syllables."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def call(self, utterances: int, *, telephone: bool = False) -> list[Samples]:
        """One speaker's utterances."""
        loudness = 10 ** (self._rng.normal(-26, 4) / 20)
        return [self._utterance(loudness, telephone) for _ in range(utterances)]

    def _utterance(self, loudness: float, telephone: bool) -> Samples:
        seconds = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
        syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * seconds + self._rng.uniform(0, 6))
        noise = self._rng.standard_normal(len(seconds)) * syllables + 1e-3
        samples = (noise * loudness).clip(-1, 1).astype(np.float32)
        return audio.telephone(samples) if telephone else samples

    def confidence(self, *, sure: bool = True) -> float:
        """How sure a recogniser is of them."""
        return float(self._rng.beta(30, 2) if sure else self._rng.beta(5, 5))


def reference(seed: int = 7, speakers: int = 40) -> Reference:
    """What a champion of these callers leaves behind."""
    callers = Callers(seed)
    rows = [
        ReferenceRow(
            condition="golden",
            speaker=str(speaker),
            signals=signals.utterance(
                quality.measure(samples), text=SAID, confidence=callers.confidence()
            ),
            errors=speaker % 4 == 0,
            words=4,
        )
        for speaker in range(speakers)
        for samples in callers.call(2)
    ]
    return build(rows, signals=signals.SIGNALS)


@dataclass
class Registry:
    """Champions as the monitor sees them."""

    current: str | None = None
    references: dict[str, bytes] = field(default_factory=dict)

    def champion(self) -> str | None:
        return self.current

    def registered_at(self, version: str) -> datetime:
        return START - timedelta(days=int(version))

    def attachment(self, version: str, name: str) -> bytes:
        if name != ARTIFACT or version not in self.references:
            raise NotFound(f"Version {version} has no {name}.")
        return self.references[version]


@dataclass
class Launcher:
    """A PipelineLauncher whose runs end when a test says so."""

    states: dict[str, str] = field(default_factory=dict)
    recipes: dict[str, str] = field(default_factory=dict)
    away: bool = False

    def launch(self, run_id: str, recipe: str) -> None:
        if self.away:
            raise ServiceUnavailable("The launcher is away.")
        if run_id not in self.states:
            self.states[run_id] = "running"
            self.recipes[run_id] = recipe

    def status(self, run_id: str) -> str:
        return self.states.get(run_id, "unknown")


class Deployment:
    """Everything around the monitor: log, objects, registry, corrections, decisions, clock."""

    def __init__(self, folder: Path) -> None:
        self.log = InMemoryEvents()
        self.objects = InMemoryObjects()
        self.calls = Calls(self.log, self.objects, topic=TOPIC, bucket="audio")
        self.registry = Registry()
        self.launcher = Launcher()
        self.rollouts: dict[str, str] = {}
        self._database = engine(Settings(database_url=f"sqlite:///{folder}/hearloop.db"))
        self.passed = timedelta()

    @cached_property
    def corrections(self) -> SqlCorrectionStore:
        return SqlCorrectionStore(self._database)

    @cached_property
    def decisions(self) -> Decisions:
        return Decisions(self._database)

    def close(self) -> None:
        self._database.dispose()

    def promote(self, version: str, known: Reference | None) -> None:
        if known is not None:
            self.registry.references[version] = known.to_json().encode()
        self.registry.current = version

    def watch(self, policy: MonitorPolicy, *, group: str = "monitor") -> Watch:
        outside = Outside(
            reader=self.log.reader(group, [TOPIC]),
            objects=self.objects,
            champions=self.registry,
            corrections=self.corrections,
            decisions=self.decisions,
            launcher=self.launcher,
            rollout_outcome=self.rollouts.get,
            bucket=BUCKET,
            now=lambda: START + self.passed,
            monotonic=lambda: self.passed.total_seconds(),
        )
        return Watch(outside, recipe=RECIPE, policy=policy)

    def answer(
        self, callers: Callers, calls: int, *, changed: bool = False, version: str = "1"
    ) -> list[Transcription]:
        """Serve calls of two utterances at this time; see `Calls`."""
        at = START + self.passed
        return self.calls.answer(callers, calls, at=at, changed=changed, version=version)

    def correct(self, said: list[Transcription], *, believed: bool = True) -> None:
        """See `correct_all`."""
        correct_all(self.corrections, said, believed=believed)


class Calls:
    """A deployment's answers: audio in object storage, events in the log."""

    def __init__(self, log: EventLog, objects: ObjectStore, *, topic: str, bucket: str) -> None:
        self._log = log
        self._objects = objects
        self._topic = topic
        self._bucket = bucket
        self._calls = itertools.count()

    def answer(
        self, callers: Callers, calls: int, *, at: datetime, changed: bool, version: str
    ) -> list[Transcription]:
        """Serve calls of two utterances; changed ones come by telephone and are ill understood."""
        said = [
            self._answer(f"call {call}", number, samples, callers, at, changed, version)
            for call in itertools.islice(self._calls, calls)
            for number, samples in enumerate(callers.call(2, telephone=changed))
        ]
        for event in said:
            self._log.publish(self._topic, event.call, event.to_json())
        return said

    def _answer(
        self,
        call: str,
        number: int,
        samples: Samples,
        callers: Callers,
        at: datetime,
        changed: bool,
        version: str,
    ) -> Transcription:
        body = audio.encode_flac(samples)
        digest = audio.digest(body)
        uri = f"s3://{self._bucket}/audio/{digest}.flac"
        self._objects.put(uri, body)
        request = f"{call}, utterance {number}"
        return Transcription(
            event_id=event_id(request, digest),
            request_id=request,
            call=call,
            speaker=None,
            model_version=version,
            audio_uri=uri,
            audio_seconds=30.0,
            text="pleas or the to lamb" if changed else SAID,
            confidence=callers.confidence(sure=not changed),
            words=5,
            received_at=at.isoformat(),
        )


def correct_all(
    store: SqlCorrectionStore, said: list[Transcription], *, believed: bool = True
) -> None:
    """Three people correct the answers and the audio supports them, or a stranger whom it does
    not."""
    for number, event in enumerate(said):
        given = correct(
            event,
            text=SAID,
            contributor=f"person {number % 3}" if believed else "stranger",
            received_at=event.received_at,
        )
        stored, _ = store.add(given)
        store.set_evidence(
            stored.id,
            Evidence(
                plausibility=-0.1,
                rival_plausibility=-5.0,
                support=0.97 if believed else 0.3,
                rivals=32,
            ),
        )
