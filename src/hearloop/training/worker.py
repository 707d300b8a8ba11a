"""One worker of a training: what torchrun starts, once for each process."""

import fcntl
import json
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Final

import numpy as np
import torch

from hearloop.architecture import sized
from hearloop.bundle import Bundle, hears_samples, verify
from hearloop.config import Settings
from hearloop.errors import ConfigurationError, ServiceUnavailable, TrainingFailed
from hearloop.export import load_network, write_bundle
from hearloop.families import Family, RnnCtc, Wav2Vec2Ctc
from hearloop.files import write_atomically
from hearloop.model import Model, build
from hearloop.recipe import TrainingConfig
from hearloop.streamed import LazyFeatures
from hearloop.training import units
from hearloop.training.adaptation import average, choose, report
from hearloop.training.attempts import Weights
from hearloop.training.batches import Example
from hearloop.training.checkpoints import Checkpoint, Checkpoints, restore
from hearloop.training.curves import Curves, progress_bar
from hearloop.training.judging import word_error_rate
from hearloop.training.loop import Step, Trainer
from hearloop.training.material import load_material
from hearloop.training.request import FAILURE, SUMMARY, Candidate, StagedTraining, TrainingSummary
from hearloop.training.samples import listen

__all__ = ["STOPPED", "Stopped", "run"]

log = logging.getLogger(__name__)

STOPPED: Final = 128 + signal.SIGTERM
"""Exit status after SIGTERM, as shells count it: the checkpoint is written, run again to go on."""
_CHECKPOINT_STEPS: Final = 100
"""Steps between checkpoints: 10 s of work are lost at most, and 0.1 s is spent on each."""
_DEV_SHARE: Final = 0.2
"""Share of the steps between two looks at the development set."""
_CALIBRATED_ON: Final = 400
"""Streamed utterances whose mean and deviation stand for all: two shards, 20 minutes."""
_LEAST_VARIANCE: Final = 1e-4
"""Of a bin in which nothing was heard, and which nothing must be divided by."""


class Stopped(Exception):
    """SIGTERM came; the state was saved."""


def run(
    staged: StagedTraining,
    *,
    rank: int = 0,
    workers: int = 1,
    saved: Callable[[Path], None] | None = None,
) -> TrainingSummary | None:
    """Train, or go on training; rank 0 writes the bundle and returns the summary.

    Args:
        staged: the training.
        rank: number of this worker.
        workers: how many there are; with more than one, torch.distributed is initialised.
        saved: told about each checkpoint file.

    Raises:
        Stopped: SIGTERM came; a checkpoint was written.
        ConfigurationError: there is nothing to learn from.
        TrainingFailed: the workers found different checkpoints.
    """
    torch.set_flush_denormal(True)  # gradients that fade out would slow the steps tenfold
    with ExitStack() as stack:
        if rank == 0:
            stack.enter_context(_alone_in(staged.work))
        stop = stack.enter_context(_sigterm())
        return _Run(staged, rank, workers, saved, stop).train()


@contextmanager
def _alone_in(work: Path) -> Iterator[None]:
    """Wait until no other training writes to the work folder: one may still be saving."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _sigterm() -> Iterator[Callable[[], bool]]:
    """Catch SIGTERM; gives a function that tells whether it came."""
    came: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = signal.signal(signal.SIGTERM, remember)
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)


class _Run:
    """The state of one worker's training."""

    def __init__(
        self,
        staged: StagedTraining,
        rank: int,
        workers: int,
        saved: Callable[[Path], None] | None,
        stop: Callable[[], bool],
    ) -> None:
        self._staged, self._rank = staged, rank
        self._config: TrainingConfig = staged.request.config
        self._saved, self._stop = saved, stop
        base = verify(staged.base) if staged.base else None
        self._tokenizer = units.tokenizer(staged, base)
        self._material = load_material(staged, self._tokenizer)
        self._checkpoints = Checkpoints(staged.work / "checkpoints", staged.request.digest)
        checkpoint = self._checkpoints.newest()
        if base:
            network = load_network(base)
            _same_family(self._config.family, base)
        else:
            network = new_network(
                self._config.family or RnnCtc(),
                len(self._tokenizer),
                self._config.seed,
                staged.pretrained,
            )
            if checkpoint is None and not hears_samples(self._config.family, None):
                calibrate(network, self._material.train)  # a checkpoint knows what was measured
        self._trainer = Trainer(
            network, self._material.train, self._config, rank=rank, workers=workers
        )
        self._base = {name: t.clone() for name, t in network.state_dict().items()} if base else None
        self._failed_checkpoints = 0
        self._audio_seconds = self._step_seconds = 0.0
        self._began = time.monotonic()
        self._resume(checkpoint)

    def train(self) -> TrainingSummary | None:
        if self._rank > 0:
            self._steps(None)
            return None
        curves = Curves(
            self._staged.work / "curves.jsonl",
            run_id=self._staged.request.run_id,
            tracking_uri=Settings().mlflow_tracking_uri,
        )
        try:
            self._steps(curves)
            before, candidates, chosen = self._candidates()
            curves.outcome(report(candidates, before, chosen))
        finally:
            lost = curves.close()
        return self._finish(before, candidates, chosen, lost)

    def _resume(self, checkpoint: Checkpoint | None) -> None:
        if checkpoint is not None:
            restore(self._trainer, checkpoint)
            self._began -= checkpoint.seconds
            log.info(
                "training goes on after step %d of %d", checkpoint.step, self._config.total_steps
            )
        if not self._trainer.agreed():
            raise TrainingFailed(
                f"The workers begin at different steps, this one at {self._trainer.steps_done}: "
                "their checkpoints differ; start the training again."
            )

    def _steps(self, curves: Curves | None) -> None:
        if curves is None:
            while self._trainer.steps_done < self._config.total_steps:
                if self._trainer.step(stop=self._stop()).stop:
                    raise Stopped
            return
        with progress_bar(self._config.total_steps) as bar:
            while self._trainer.steps_done < self._config.total_steps:
                step = self._trainer.step(stop=self._stop())
                curves.step(step)
                bar.step(step)
                self._audio_seconds += step.audio_seconds
                self._step_seconds += step.seconds
                self._after(step, curves)

    def _after(self, step: Step, curves: Curves) -> None:
        last = step.number == self._config.total_steps
        if step.stop or last or step.number % _CHECKPOINT_STEPS == 0:
            self._save()
        if step.stop:
            raise Stopped
        every = max(1, round(_DEV_SHARE * self._config.steps))
        if step.number % every == 0 and step.number < self._config.total_steps:
            curves.dev(step.number, self._wer(self._material.new_dev))
            dev, symbols = self._material.new_dev, self._tokenizer.symbols
            curves.samples(
                step.number, listen(self._trainer.network, dev, self._tokenizer), symbols
            )

    def _save(self) -> None:
        try:
            path = self._checkpoints.save(self._trainer, time.monotonic() - self._began)
        except OSError as error:
            self._failed_checkpoints += 1
            log.error(
                "The checkpoint after step %d cannot be written (%s); make room in %s. Training "
                "goes on, the checkpoint before it is intact.",
                self._trainer.steps_done,
                error.strerror,
                self._staged.work,
            )
            return
        if self._saved:
            try:
                self._saved(path)
            except ServiceUnavailable as error:
                self._failed_checkpoints += 1
                log.error("%s Training goes on; its checkpoint is on this machine alone.", error)

    def _wer(self, examples: list[Example]) -> float:
        return word_error_rate(self._trainer.network, examples, self._tokenizer)

    def _candidates(self) -> tuple[Candidate | None, list[Candidate], Candidate]:
        """Judge the base and what each rate and share gives; the network gets the best weights."""
        ends = dict(zip(self._config.learning_rates, self._trainer.attempts.ends(), strict=True))
        before = self._judge(self._base, 0.0, None) if self._base else None
        shares = self._config.average_with_base if self._base else (1.0,)
        candidates = [
            self._judge(self._mixed(new, share), share, rate)
            for rate, new in ends.items()
            for share in shares
        ]
        chosen = choose(candidates, before, self._config.accepted_forgetting)
        assert chosen.learning_rate is not None  # only that of the base is None
        best = self._mixed(ends[chosen.learning_rate], chosen.share)
        self._trainer.network.load_state_dict(best)
        return before, candidates, chosen

    def _mixed(self, new: Weights, share: float) -> Weights:
        return average(self._base, new, share) if self._base else new

    def _judge(self, weights: Weights, share: float, rate: float | None) -> Candidate:
        if self._stop():
            raise Stopped  # there is a checkpoint after the last step
        self._trainer.network.load_state_dict(weights)
        return Candidate(
            share=share,
            new_wer=self._wer(self._material.new_dev),
            old_wer=self._wer(self._material.old_dev) if self._material.old_dev else None,
            learning_rate=rate,
        )

    def _finish(
        self,
        before: Candidate | None,
        candidates: list[Candidate],
        chosen: Candidate,
        lost: int,
    ) -> TrainingSummary:
        summary_path = self._staged.work / SUMMARY
        summary_path.unlink(missing_ok=True)  # that of another request is not this bundle's
        write_bundle(
            self._staged.output,
            self._trainer.network,
            self._tokenizer,
            training=self._staged.request.digest,
        )
        summary = TrainingSummary(
            steps=self._config.total_steps,
            seconds=round(time.monotonic() - self._began, 3),
            audio_seconds_per_second=round(
                self._audio_seconds / self._step_seconds if self._step_seconds else 0.0, 1
            ),
            dev_wer=chosen.new_wer,
            share=chosen.share,
            learning_rate=chosen.learning_rate,
            candidates=tuple(candidates),
            before=before,
            checkpoints_failed=self._failed_checkpoints,
            curve_points_lost=lost,
        )
        write_atomically(summary_path, summary.to_json().encode())
        return summary


def new_network(
    family: Family, vocabulary: int, seed: int, pretrained: Path | None = None
) -> Model:
    """A network with random weights, or with those that others trained.

    `pretrained`: local copy of the weights that a family begins with, where it is no other place.
    """
    torch.manual_seed(seed)
    if isinstance(family, Wav2Vec2Ctc):
        from hearloop.model.pretrained import load_pretrained

        return load_pretrained(family, vocabulary, pretrained)
    return build(sized(family, vocabulary=vocabulary))


def calibrate(network: Model, train: Sequence[Example]) -> None:
    """Tell a network the mean and deviation of the features that it will learn from."""
    heard = [one.features for one in train if one.ids]
    if isinstance(heard[0], LazyFeatures):  # each has to be fetched
        heard = heard[:_CALIBRATED_ON]
    total = squares = np.zeros(())
    for features in heard:  # one at a time: all of them in float64 are many times the corpus
        frames = np.asarray(features, np.float64)
        total = total + frames.sum(axis=0)
        squares = squares + np.square(frames).sum(axis=0)
    count = sum(len(features) for features in heard)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(mean), _LEAST_VARIANCE))
    network.calibrate(torch.from_numpy(mean), torch.from_numpy(deviation))


def _same_family(family: Family | None, base: Bundle) -> None:
    """Raise ConfigurationError where a recipe asks for another network than the base's."""
    differing = [
        f"{field.name} {getattr(family, field.name)!r}"
        for field in (fields(family) if family else ())
        if getattr(base.architecture, field.name, None) != getattr(family, field.name)
    ]
    if differing:
        raise ConfigurationError(
            f"The recipe asks for a network with {', '.join(differing)}, the base has other sizes; "
            "leave the family out to keep the base's, or train without warm_start."
        )


def write_failure(work: Path, error: Exception) -> None:
    """Leave the reason of a failure for the launcher."""
    body = {"kind": type(error).__name__, "message": str(error)}
    write_atomically(work / FAILURE, json.dumps(body).encode())
