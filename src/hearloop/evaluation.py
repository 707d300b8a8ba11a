"""Let champion and challenger transcribe the same recordings and keep what they said.

>>> evaluation = evaluate(
...     {GOLDEN: JudgedRows(snapshots=(old,), rows=rows_of_old), NEW: JudgedRows(...)},
...     {CHAMPION: champion, CHALLENGER: challenger},
...     audio=lambda row: decode(local_audio(row, objects, cache).read_bytes()).samples,
... )  # doctest: +SKIP
>>> evaluation.wer(NEW, CHALLENGER)  # doctest: +SKIP
0.142

Recordings are read and recognised a few dozen at a time, so memory does not grow with the sets.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from hearloop import nonspeech
from hearloop.architecture import Shape
from hearloop.audio import SAMPLE_RATE, Samples
from hearloop.datasets import CutRow
from hearloop.errors import InvalidInput
from hearloop.features import Matrix
from hearloop.graph import Graph, States
from hearloop.recogniser import Recogniser
from hearloop.scores import CHALLENGER, Evaluation, JudgedModel, JudgedSet, NonSpeechClip
from hearloop.scoring import ScoredUtterance, answer, slices
from hearloop.telemetry import Progress, Silent

if TYPE_CHECKING:
    from hearloop.model import Model

__all__ = ["JudgedRows", "agreement", "evaluate"]

_BATCH = 32
"""Recordings that a thread holds at a time: about 6 MB of calls."""

_SAMPLED = 24
"""Recordings on which speed and agreement are measured, spread evenly over the sets."""

_TOLERANCE = 1e-3
"""Largest difference of a probability between the exported graph and the trained network. Rounding
makes one of about 3e-6; a weight or an operation that was exported wrong exceeds it everywhere. No
text is compared: where two characters are as likely, rounding may choose between them."""


@dataclass(frozen=True, kw_only=True)
class JudgedRows:
    """What a judged set is made of."""

    snapshots: tuple[str, ...]
    """Digests of the snapshots that the rows come from."""
    rows: Sequence[CutRow]
    """Rows of their test splits."""


Audio = Callable[[CutRow], Samples]
"""Reads the recording of a row: (n,) samples at 16 kHz."""


def evaluate(
    sets: Mapping[str, JudgedRows],
    models: Mapping[str, Recogniser],
    *,
    audio: Audio,
    versions: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Transcribe every recording with every model.

    Args:
        sets: judged sets by name, `scores.GOLDEN` and `scores.NEW`.
        models: by role, `scores.CHALLENGER` and, unless it is the first model, `scores.CHAMPION`;
            loaded as they are served (`bundle.SERVED`).
        audio: reads the recording of a row; called from several threads.
        versions: registered version by role; the digest of the bundle where there is none.
        progress: advances by one for each utterance.

    Raises:
        InvalidInput: a judged set is empty, or an utterance id occurs in it twice.
    """
    judge = _Judge(models, audio, progress or Silent())
    judged = {name: judge.score(name, judged_rows) for name, judged_rows in sets.items()}
    every = [row for judged_rows in sets.values() for row in judged_rows.rows]
    recordings = [audio(row) for row in _spread(every)]
    return Evaluation(
        models={
            role: _facts(
                recogniser,
                recordings,
                version=(versions or {}).get(role, recogniser.bundle.digest),
                trained=role == CHALLENGER,
            )
            for role, recogniser in models.items()
        },
        sets=judged,
        clips=tuple(_listen(models)),
    )


def agreement(recogniser: Recogniser, recordings: Sequence[Samples]) -> float:
    """Share of recordings in which the exported graph is as sure of each character at each moment
    as the trained network, to `_TOLERANCE`.

    Raises ValueError without a recording.
    """
    if not recordings:
        raise ValueError("agreement needs a recording")
    from hearloop.export import load_network

    bundle = recogniser.bundle
    graph = _Trained(load_network(bundle), bundle.architecture, recogniser.graph.frames)
    features = [bundle.architecture.features(samples) for samples in recordings]
    trained = Recogniser(bundle, graph, recogniser.tokenizer).log_probs(features)
    exported = recogniser.log_probs(features)
    alike = [
        np.allclose(np.exp(one), np.exp(other), rtol=0.0, atol=_TOLERANCE)
        for one, other in zip(trained, exported, strict=True)
    ]
    return float(np.mean(alike))


class _Trained(Graph):
    """The trained network in torch where a recogniser expects the exported graph."""

    def __init__(self, network: "Model", architecture: Shape, frames: int | None) -> None:
        self._network = network
        self._architecture = architecture
        self.frames = frames

    def _answer(self, x: Matrix, states: States) -> list[Matrix]:
        import torch

        with torch.inference_mode():
            before = [torch.from_numpy(state) for state in states]
            log_probs, after = self._network(torch.from_numpy(x), before)
        return [log_probs.numpy(), *(state.numpy() for state in after)]


class _Judge:
    """Scores judged sets with the same models."""

    def __init__(
        self,
        models: Mapping[str, Recogniser],
        audio: Audio,
        progress: Progress,
    ) -> None:
        self._models = models
        self._audio = audio
        self._progress = progress

    def score(self, name: str, judged: JudgedRows) -> JudgedSet:
        ids = {row.id for row in judged.rows}
        if len(ids) < max(len(judged.rows), 1):
            raise InvalidInput(
                f"The judged set {name!r} has {len(judged.rows)} utterances with {len(ids)} "
                "different ids; give it a test split with at least one, each of them once."
            )
        batches = [judged.rows[at : at + _BATCH] for at in range(0, len(judged.rows), _BATCH)]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            scored = [one for batch in threads.map(self._score, batches) for one in batch]
        return JudgedSet(snapshots=judged.snapshots, utterances=tuple(scored))

    def _score(self, rows: Sequence[CutRow]) -> list[ScoredUtterance]:
        recordings = [self._audio(row) for row in rows]
        said = {role: model.transcribe_many(recordings) for role, model in self._models.items()}
        scored = []
        for index, row in enumerate(rows):
            answers = {
                role: answer(row.text, said[role][index].text, said[role][index].confidence)
                for role in said
            }
            scored.append(
                ScoredUtterance(
                    id=row.id,
                    speaker=row.speaker,
                    call=row.call,
                    reference=row.text,
                    seconds=row.seconds,
                    audio_uri=row.audio_uri,
                    audio_digest=row.audio_digest,
                    slices=slices(
                        accent=row.accent,
                        source=row.source,
                        seconds=row.seconds,
                        snr_db=row.quality.snr_db,
                    ),
                    answers=answers,
                )
            )
            self._progress.advance()
        return scored


def _facts(
    recogniser: Recogniser, recordings: Sequence[Samples], *, version: str, trained: bool
) -> JudgedModel:
    files = [path for path in recogniser.bundle.directory.iterdir() if path.is_file()]
    return JudgedModel(
        version=version,
        size_bytes=sum(path.stat().st_size for path in files),
        real_time_factor=_real_time_factor(recogniser, recordings),
        agreement=_agreement(recogniser, recordings) if trained else None,
    )


def _agreement(recogniser: Recogniser, recordings: Sequence[Samples]) -> float:
    """Of the exact graph, even when the rounded one is judged: rounding is no wrong export."""
    return agreement(Recogniser.load(recogniser.bundle.directory, "fp32"), recordings)


def _real_time_factor(recogniser: Recogniser, recordings: Sequence[Samples]) -> float:
    """Median over recordings: other work on the machine disturbs some of them, not most."""
    factors = []
    for samples in recordings:
        began = time.perf_counter()
        recogniser.transcribe(samples)
        factors.append((time.perf_counter() - began) / (len(samples) / SAMPLE_RATE))
    return median(factors)


def _listen(models: Mapping[str, Recogniser]) -> Iterator[NonSpeechClip]:
    """What the models hear where nobody speaks."""
    clips = list(nonspeech.clips())
    recordings = [clip.samples for clip in clips]
    heard = {role: model.transcribe_many(recordings) for role, model in models.items()}
    for index, clip in enumerate(clips):
        yield NonSpeechClip(
            kind=clip.kind,
            seconds=len(clip.samples) / SAMPLE_RATE,
            heard={role: heard[role][index].text for role in models},
        )


def _spread(rows: Sequence[CutRow]) -> list[CutRow]:
    """At most `_SAMPLED` of the rows, evenly spread."""
    return [rows[index] for index in sorted({*np.linspace(0, len(rows) - 1, _SAMPLED).astype(int)})]
