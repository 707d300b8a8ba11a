"""Training straight from object storage: nothing is fetched before, and a lost worker goes on."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hearloop import audio, exchange, streamed
from hearloop.bundle import verify
from hearloop.datasets import audio_uri, write_snapshot
from hearloop.families import RnnCtc
from hearloop.recipe import TrainingConfig
from hearloop.stack import Stack
from hearloop.storage.objects import S3Objects
from hearloop.training import FeatureSet
from hearloop.training.request import StagedTraining, TrainingRequest
from tests.unit.test_streamed import ROW

pytestmark = pytest.mark.stack

SMALL = RnnCtc(front_channels=16, hidden=32, layers=1)
TINY = TrainingConfig(steps=5, batch_seconds=3.0, seed=2, stream=True, family=SMALL)


def archive(objects: S3Objects, stack: Stack, cache: Path) -> str:
    rng, rows = np.random.default_rng(1), []
    for number in range(24):
        samples = 0.1 * rng.standard_normal(6_000 + 200 * number)
        flac = audio.encode_flac(samples.astype(np.float32))
        uri = audio_uri(stack.settings.buckets.snapshots, audio.digest(flac))
        objects.create(uri, flac)
        row = replace(ROW, id=f"u{number}", text="abc", split="train" if number % 4 else "dev")
        seconds = len(samples) / 16_000
        rows.append(replace(row, seconds=seconds, audio_digest=audio.digest(flac), audio_uri=uri))
    bucket = stack.settings.buckets.snapshots
    snapshot = write_snapshot(rows, [], recipe=[], objects=objects, bucket=bucket)
    bucket = stack.settings.buckets.artifacts
    return streamed.extract(snapshot, objects=objects, bucket=bucket, cache=cache)


def worker(work: Path, archive: str, stack: Stack, prelude: str = "") -> int:
    """One worker to its end; its exit status."""
    sets = (FeatureSet(role="new", archive=archive),)
    staged = StagedTraining(
        request=TrainingRequest(config=TINY, sets=sets),
        shards=((),),
        base=None,
        work=work,
        output=work / "bundle",
    )
    work.mkdir(parents=True, exist_ok=True)
    (work / "staged.json").write_text(staged.to_json())
    code = (
        "import os, signal, sys; from hearloop.training import worker\n"
        "from hearloop.training.__main__ import main; from hearloop.training.loop import Trainer\n"
        f"worker._CHECKPOINT_STEPS = 2\n{prelude}\nsys.exit(main(sys.argv[1]))"
    )
    s3 = stack.settings.s3
    environment = os.environ | {
        "RANK": "0", "WORLD_SIZE": "1", "OMP_NUM_THREADS": "1",
        "HEARLOOP_CACHE": str(work / "cache"),
        "HEARLOOP_S3__ENDPOINT_URL": s3.endpoint_url,
        "HEARLOOP_S3__ACCESS_KEY_ID": s3.access_key_id,
        "HEARLOOP_S3__SECRET_ACCESS_KEY": s3.secret_access_key.get_secret_value(),
    }  # fmt: skip
    command = [sys.executable, "-c", code, str(work / "staged.json")]
    return subprocess.run(command, env=environment).returncode


KILLED = """
before = Trainer._over_workers
def dies(trainer, loss, stop):
    if trainer.steps_done == 3: os.kill(os.getpid(), signal.SIGKILL)
    return before(trainer, loss, stop)
Trainer._over_workers = dies
"""


def test_a_streamed_training_fetches_nothing_before_and_resumes_exactly(
    embedded: Stack, object_store: S3Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_SHARD", 4)
    uri = archive(object_store, embedded, tmp_path / "cache")
    assert worker(tmp_path / "whole", uri, embedded) == 0
    assert not (tmp_path / "whole/cache").exists()
    assert worker(tmp_path / "killed", uri, embedded, KILLED) == -signal.SIGKILL
    assert worker(tmp_path / "killed", uri, embedded) == 0
    digests = [verify(tmp_path / name / "bundle").digest for name in ("whole", "killed")]
    assert digests[0] == digests[1]
