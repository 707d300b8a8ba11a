"""Entry point of a worker: `torchrun … -m hearloop.training TRAINING`.

TRAINING is the path of a staged training, or in a cluster the `s3://` folder of a request, which
is then fetched, trained from and answered to.
"""

import logging
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from hearloop.errors import HearloopError
from hearloop.telemetry import set_up_logging
from hearloop.training.request import StagedTraining
from hearloop.training.worker import STOPPED, Stopped, run, write_failure

log = logging.getLogger(__name__)


def main(training: str) -> int:
    """Train; returns the exit status."""
    set_up_logging()
    rank, workers = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if workers > 1:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        if training.startswith("s3://"):
            _train_in_cluster(training, rank, workers)
        else:
            _train_here(Path(training), rank, workers)
    except Stopped:
        log.info("training was asked to stop; run it again to go on")
        return STOPPED
    finally:
        if workers > 1:
            dist.destroy_process_group()
    return 0


def _train_here(path: Path, rank: int, workers: int) -> None:
    staged = StagedTraining.from_json(path.read_text(encoding="utf-8"))
    try:
        run(staged, rank=rank, workers=workers)
    except HearloopError as error:
        write_failure(staged.work, error)
        raise


def _train_in_cluster(folder: str, rank: int, workers: int) -> None:
    from hearloop.composition import objects
    from hearloop.config import Settings
    from hearloop.training.remote import RemoteTraining

    settings = Settings()
    remote = RemoteTraining(folder, objects(settings), settings.cache)
    staged = remote.stage()
    summary = run(staged, rank=rank, workers=workers, saved=remote.keep if rank == 0 else None)
    if summary:
        remote.answer(staged.output, summary)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
