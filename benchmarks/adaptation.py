"""Learning unseen accents without forgetting: `python -m benchmarks.adaptation --home FOLDER`.

The base is what `benchmarks.recognition --home FOLDER` trained on three accents (trained first
where it is missing). Callers of four accents that it never heard are answered for an hour; people
take the answers as the review queue ranks them and correct those that are wrong, ten minutes of
speech in all. That adapts the base, with old speech mixed in; development speakers choose learning
rate and share of the new weights. Both figures are of other speakers and other sentences than the
corrected ones: `drift_relative_gain` on the new accents, `drift_forgetting` on the old.
"""

import argparse
import hashlib
import json
import os
import tempfile
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
from hearloop.recipe import Augmentation, PerSplit, Split, SyntheticCorpus, TrainingConfig
from hearloop.recogniser import Recogniser
from hearloop.review import Candidate, rank
from hearloop.testing import InMemoryObjects
from hearloop.training import FeatureSet, TorchrunLauncher, train

COMMAND: Final = "python -m benchmarks.adaptation --home runs/benchmarks/recognition"
ACCENTS: Final = ("en-gb-scotland", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
DRIFTED: Final = SyntheticCorpus(
    seed=23,
    speakers=PerSplit(train=104, dev=16, test=40),
    utterances_per_speaker=PerSplit(train=8, dev=8, test=12),
    accents=ACCENTS,
    snr_db=(15.0, 35.0),
)
CORRECTED_SECONDS: Final = 600.0
"""Of corrections, those that choose included."""
SPLITS: Final[tuple[Split, ...]] = ("train", "dev")
CORRECTIONS: Final = "s3://features/corrections"
ADAPTATION: Final = TrainingConfig(
    steps=3600,
    peak_learning_rate=2e-3,
    other_learning_rates=(1e-3,),
    warm_start=True,
    replay_utterances=3000,
    corpus_repeats=36,
    average_with_base=(0.5, 0.7, 0.8, 0.9, 1.0),
    accepted_forgetting=0.002,
    averaged_checkpoints=5,
    augmentation=Augmentation(rooms=0.3, noise=0.3, voices=0.8),
)


def corrections(objects: InMemoryObjects, base: Path) -> None:
    """Archive ten minutes of what callers of new accents said and `base` heard otherwise.

    People are handed its answers as the review queue ranks them, and correct those that are wrong.
    """
    said = {
        f"{split}-{number}": one
        for split in SPLITS
        for number, one in enumerate(utterances(DRIFTED, split))
    }
    answers = Recogniser.load(base, SERVED).transcribe_many([one.samples for one in said.values()])
    heard = dict(zip(said, answers, strict=True))
    candidates = [
        Candidate(
            request_id=name,
            call=f"call of {said[name].speaker}",
            text=answer.text,
            confidence=answer.confidence,
        )
        for name, answer in heard.items()
    ]
    rows, matrices, seconds = [], [], 0.0
    for place in rank(candidates, limit=len(candidates)):
        name = place.candidate.request_id
        one = said[name]
        if heard[name].text == one.text:
            continue
        seconds += len(one.samples) / SAMPLE_RATE
        if seconds > CORRECTED_SECONDS:
            break
        matrices.append(log_mel(one.samples).astype(np.float16))
        split = name.partition("-")[0]
        rows.append({"id": name, "split": split, "text": one.text, "frames": len(matrices[-1])})
    chosen = sum(row["split"] == "dev" for row in rows)
    print(f"{len(rows)} corrections of {len(said)} answers, {chosen} of them choose", flush=True)
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
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    objects = archive(given.home)
    if not (given.home / "bundle").exists():
        train_counted(TRAINING, objects, given.home)
    corrections(objects, given.home / "bundle")
    adapted = adapt(given.home, ADAPTATION, objects)
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
    record("speech", "drift_relative_gain", 1 - after / before, "share of the WER", COMMAND)
    record("speech", "drift_forgetting", now - kept, "absolute WER", COMMAND)


if __name__ == "__main__":
    main()
