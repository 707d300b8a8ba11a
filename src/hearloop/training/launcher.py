"""Start a training and wait for its model: torchrun on this machine, a TrainJob in a cluster.

>>> train(config, sets=[FeatureSet(role="new", archive=uri)], base_bundle=None,
...       output=Path("bundle"), work=Path("work"), launcher=launcher)  # doctest: +SKIP
TrainingSummary(steps=1400, …)
"""

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from hearloop.bundle import verify
from hearloop.errors import IntegrityError, TrainingFailed
from hearloop.files import write_atomically
from hearloop.ports import ObjectStore
from hearloop.recipe import TrainingConfig
from hearloop.training.pretrained import fetch_pretrained
from hearloop.training.request import (
    FAILURE,
    SUMMARY,
    FeatureSet,
    StagedTraining,
    TrainingRequest,
    TrainingSummary,
)
from hearloop.training.sets import fetched

__all__ = ["Launcher", "TorchrunLauncher", "start", "train"]

log = logging.getLogger(__name__)

_RESTARTS: Final = 2
"""How often torchrun starts the workers again when one dies; they go on from the checkpoint."""
_PR_SET_PDEATHSIG: Final = 1
"""prctl(2): the signal that a process gets when its parent ends."""


class Launcher(Protocol):
    """Runs a request where there is room for it."""

    def run(
        self, request: TrainingRequest, *, base_bundle: Path | None, output: Path, work: Path
    ) -> TrainingSummary:
        """Train and leave the bundle in `output`. Raises TrainingFailed."""


def train(
    config: TrainingConfig,
    *,
    sets: Sequence[FeatureSet],
    base_bundle: Path | None,
    output: Path,
    work: Path,
    launcher: Launcher,
    run_id: str | None = None,
    language: str = "en",
) -> TrainingSummary:
    """Train a recogniser and leave its bundle in `output`.

    Interrupted anywhere and called again with the same arguments it goes on, and ends with the
    same weights; called after the end it only returns the summary.

    Args:
        config: steps, optimiser, replay and averaging.
        sets: feature archives to learn from.
        base_bundle: bundle to start from; None begins with random weights.
        output: directory for the bundle.
        work: folder for checkpoints, curves and the summary; of this training alone.
        launcher: where the workers run.
        run_id: MLflow run for the curves.
        language: tag of the language of all texts.

    Raises:
        TrainingFailed: a worker ended without a model.
        IntegrityError: the base bundle or an archive is damaged.
    """
    base = verify(base_bundle).digest if base_bundle else None
    request = TrainingRequest(
        config=config, sets=tuple(sets), base=base, run_id=run_id, language=language
    )
    done = _finished(request, output, work)
    if done:
        log.info("this model is trained already: %s", output)
        return done
    work.mkdir(parents=True, exist_ok=True)
    summary = launcher.run(request, base_bundle=base_bundle, output=output, work=work)
    write_atomically(work / SUMMARY, summary.to_json().encode())
    return summary


def _finished(request: TrainingRequest, output: Path, work: Path) -> TrainingSummary | None:
    """The summary of an earlier call with the same request whose bundle is still whole."""
    try:
        trained = verify(output).training == request.digest
        return TrainingSummary.from_json((work / SUMMARY).read_bytes()) if trained else None
    except (IntegrityError, OSError, ValueError):
        return None


class TorchrunLauncher:
    """Workers on this machine, started by torchrun."""

    def __init__(self, objects: ObjectStore, cache: Path) -> None:
        """`objects` hold the archives; `cache` gets local copies of them."""
        self._objects = objects
        self._cache = cache

    def run(
        self, request: TrainingRequest, *, base_bundle: Path | None, output: Path, work: Path
    ) -> TrainingSummary:
        """Train and leave the bundle in `output`. Raises TrainingFailed."""
        shards = [fetched(one, self._objects, self._cache) for one in request.sets]
        staged = StagedTraining(
            request=request,
            shards=tuple(shards),
            base=base_bundle,
            work=work,
            output=output,
            pretrained=fetch_pretrained(request.config.family, self._objects, self._cache),
        )
        (work / "staged.json").write_text(staged.to_json(), encoding="utf-8")
        (work / FAILURE).unlink(missing_ok=True)
        status = _torchrun(work / "staged.json", request.config.workers)
        if status:
            raise TrainingFailed(_reason(status, work))
        return TrainingSummary.from_json((work / SUMMARY).read_bytes())


def start(staged: Path, workers: int) -> "subprocess.Popen[bytes]":
    """Start torchrun for a staged training; it ends with this process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(workers), "--max-restarts", str(_RESTARTS)]
    command += ["-m", "hearloop.training", str(staged)]
    return subprocess.Popen(command, env=_environment(workers), preexec_fn=_end_with_parent)


def _torchrun(staged: Path, workers: int) -> int:
    """Run the workers to their end; returns torchrun's exit status."""
    process = start(staged, workers)
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _environment(workers: int) -> dict[str, str]:
    """As many threads as cores, unless whoever started us asks for another number: on a machine
    that does other work too, threads that wait for each other are slower than one."""
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    return {"OMP_NUM_THREADS": str(threads), **os.environ, "GLOO_SOCKET_IFNAME": "lo"}


def _end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent ends, be it killed: no training stays behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _reason(status: int, work: Path) -> str:
    try:
        failure = json.loads((work / FAILURE).read_text(encoding="utf-8"))
        return str(failure["message"])
    except (OSError, ValueError, KeyError):
        return (
            f"torchrun ended with status {status} and no model; its output says why. What was "
            f"learnt until the last checkpoint is kept in {work}: run again to go on."
        )
