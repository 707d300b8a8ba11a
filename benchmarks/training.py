"""How fast training is: `python -m benchmarks.training` on an idle machine.

`two_workers_speed` is the audio learnt from in a second by two torchrun workers with a thread
each over that of one worker with two threads, on as many steps of the same batches.
"""

import hashlib
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from hearloop.features import MEL_BINS
from hearloop.recipe import TrainingConfig
from hearloop.testing import InMemoryObjects
from hearloop.training import FeatureSet, TorchrunLauncher, train

STEPS = 120
UTTERANCES = 400
SECONDS = (1.0, 6.0)
CHARACTERS_A_SECOND = 12
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
ARCHIVE = "s3://features/timed"


def speech() -> InMemoryObjects:
    """Features and texts of the lengths that speech has; what they say does not matter here."""
    rng = np.random.default_rng(0)
    rows, matrices = [], []
    for number in range(UTTERANCES):
        seconds = rng.uniform(*SECONDS)
        frames = round(seconds * 100)
        text = "".join(rng.choice(list(ALPHABET), round(seconds * CHARACTERS_A_SECOND)))
        split = "dev" if number < 4 else "train"
        rows.append({"id": str(number), "split": split, "text": text, "frames": frames})
        matrices.append(rng.normal(-6.0, 4.0, (frames, MEL_BINS)).astype(np.float16))
    body = save({"features": np.concatenate(matrices)}, metadata={"rows": json.dumps(rows)})
    shard = {"name": "shard-00000.safetensors", "sha256": hashlib.sha256(body).hexdigest()}
    objects = InMemoryObjects()
    objects.put(f"{ARCHIVE}/{shard['name']}", body)
    objects.put(f"{ARCHIVE}/manifest.json", json.dumps({"shards": [shard]}).encode())
    return objects


def speed(workers: int, objects: InMemoryObjects) -> float:
    """Audio seconds a second of so many workers, which share the cores."""
    config = replace(TrainingConfig(steps=STEPS), workers=workers)
    sets = [FeatureSet(role="new", archive=f"{ARCHIVE}/manifest.json")]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        summary = train(
            config,
            sets=sets,
            base_bundle=None,
            output=home / "bundle",
            work=home / "work",
            launcher=TorchrunLauncher(objects, home / "cache"),
        )
    return summary.audio_seconds_per_second


def main() -> None:
    """Print the figures; in turns, so that a slow minute hits both."""
    objects = speech()
    one, two = [], []
    for _ in range(3):
        one.append(speed(1, objects))
        two.append(speed(2, objects))
        print(f"one worker {one[-1]:.0f}, two workers {two[-1]:.0f} audio seconds a second")
    print(f"two_workers_speed: {np.median(two) / np.median(one):.2f}")


if __name__ == "__main__":
    main()
