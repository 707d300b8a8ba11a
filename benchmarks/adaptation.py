"""Learning unseen accents without forgetting: `python -m benchmarks.adaptation --home FOLDER`.

The base is what `benchmarks.recognition --home FOLDER` trained on three accents (trained first
where it is missing). Ten minutes of corrections from callers of four accents that it never heard
adapt it, with old speech mixed in; development speakers choose learning rate and share of the new
weights. Both figures are of other speakers and other sentences than the corrected ones:
`drift_relative_gain` on the new accents, `drift_forgetting` on the old.
"""

import argparse
import hashlib
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save

from benchmarks.recognition import (
    ARCHIVE,
    CLEAN,
    TRAINING,
    archive,
    train_counted,
    utterances,
    word_error_rate,
)
from benchmarks.results import record
from hearloop.audio import SAMPLE_RATE
from hearloop.bundle import SERVED
from hearloop.features import log_mel
from hearloop.recipe import PerSplit, SyntheticCorpus, TrainingConfig
from hearloop.testing import InMemoryObjects
from hearloop.training import FeatureSet, TorchrunLauncher, train

COMMAND: Final = "python -m benchmarks.adaptation"
ACCENTS: Final = ("en-gb-scotland", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
DRIFTED: Final = SyntheticCorpus(
    seed=23,
    speakers=PerSplit(train=32, dev=8, test=40),
    utterances_per_speaker=PerSplit(train=4, dev=4, test=12),
    accents=ACCENTS,
    snr_db=(15.0, 35.0),
)
CORRECTED_SECONDS: Final = 600.0
"""Of corrections, those that choose included."""
CORRECTIONS: Final = "s3://features/corrections"
ADAPTATION: Final = TrainingConfig(
    steps=800,
    workers=2,
    peak_learning_rate=1e-3,
    other_learning_rates=(5e-4,),
    warm_start=True,
    replay_utterances=3000,
    corpus_repeats=12,
    average_with_base=(0.5, 0.7, 0.8, 0.9, 1.0),
    accepted_forgetting=0.002,
    averaged_checkpoints=5,
    augmentation=TRAINING.augmentation,
)


def corrections(objects: InMemoryObjects) -> None:
    """Archive ten minutes of what callers of new accents said."""
    rows, matrices, seconds = [], [], 0.0
    for split in ("dev", "train"):
        for one in utterances(DRIFTED, split):
            seconds += len(one.samples) / SAMPLE_RATE
            if seconds > CORRECTED_SECONDS:
                break
            matrices.append(log_mel(one.samples).astype(np.float16))
            row = {"id": f"corrected-{len(rows)}", "split": split, "text": one.text}
            rows.append(row | {"frames": len(matrices[-1])})
    print(f"{len(rows)} corrections, {min(seconds, CORRECTED_SECONDS):.0f} s")
    body = save({"features": np.concatenate(matrices)}, metadata={"rows": json.dumps(rows)})
    shard = {"name": "corrections.safetensors", "sha256": hashlib.sha256(body).hexdigest()}
    objects.put(f"{CORRECTIONS}/{shard['name']}", body)
    objects.put(f"{CORRECTIONS}/manifest.json", json.dumps({"shards": [shard]}).encode())


def adapt(home: Path, config: TrainingConfig, objects: InMemoryObjects) -> Path:
    """Adapt the base; returns the new bundle."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(dir=home) as work:
        summary = train(
            config,
            sets=[
                FeatureSet(role="new", archive=f"{CORRECTIONS}/manifest.json"),
                FeatureSet(role="replay", archive=f"{ARCHIVE}/manifest.json"),
            ],
            base_bundle=home / "bundle",
            output=home / "adapted",
            work=Path(work),
            launcher=TorchrunLauncher(objects, home / "cache"),
        )
        print((Path(work) / "adaptation.md").read_text())
    print(f"{summary.seconds:.0f} s", flush=True)
    return home / "adapted"


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=ADAPTATION.workers)
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    objects = archive(given.home)
    if not (given.home / "bundle").exists():
        train_counted(replace(TRAINING, workers=given.workers), objects, given.home)
    corrections(objects)
    adapted = adapt(given.home, replace(ADAPTATION, workers=given.workers), objects)
    base = given.home / "bundle"
    wer = {
        (corpus.seed, bundle.name): word_error_rate(
            bundle, list(utterances(corpus, "test")), SERVED, 8
        )
        for corpus in (DRIFTED, CLEAN)
        for bundle in (base, adapted)
    }
    before, after = (wer[DRIFTED.seed, name] for name in ("bundle", "adapted"))
    kept, now = (wer[CLEAN.seed, name] for name in ("bundle", "adapted"))
    print(f"new accents {before:.4f} to {after:.4f}, old {kept:.4f} to {now:.4f}")
    if given.workers == ADAPTATION.workers:
        record("speech", "drift_relative_gain", 1 - after / before, "share of the WER", COMMAND)
        record("speech", "drift_forgetting", now - kept, "absolute WER", COMMAND)


if __name__ == "__main__":
    main()
