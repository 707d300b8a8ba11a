"""What is learnt from scratch on two cores: `python -m benchmarks.recognition`.

From espeak-ng's calls a recogniser is trained with at most 480 CPU seconds, all of its workers and
their start counted. It is then judged on 40 speakers and on sentences that are in no training:
`synthetic_clean_wer` at an SNR of 20 to 40 dB, `synthetic_reverb_wer` in rooms computed by the
image method, RT60 0.2 to 0.6 s, at 10 to 30 dB. `int8_wer_loss` compares the two graphs of the
same bundle. `--home FOLDER` keeps corpus and bundle; `--without noise` leaves an augmentation out.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from safetensors.numpy import save

from benchmarks.results import record
from benchmarks.rooms import in_room, response
from hearloop import decoding
from hearloop.audio import Samples, add_noise
from hearloop.bundle import SERVED, Precision
from hearloop.corpora.grammar import vocabulary
from hearloop.corpora.synthetic import SyntheticCall, calls
from hearloop.features import FLOOR, MEL_BINS, log_mel
from hearloop.recipe import Augmentation, PerSplit, Split, SyntheticCorpus, TrainingConfig
from hearloop.recogniser import Recogniser
from hearloop.scoring import count_words, total
from hearloop.testing import InMemoryObjects
from hearloop.training import FeatureSet, TorchrunLauncher, TrainingSummary, train

COMMAND: Final = "python -m benchmarks.recognition"
CPU_SECONDS: Final = 480.0
CLEAN: Final = SyntheticCorpus(
    seed=11,
    speakers=PerSplit(train=300, dev=20, test=40),
    utterances_per_speaker=PerSplit(train=10, dev=10, test=12),
    snr_db=(20.0, 40.0),
)
SILENT: Final = replace(CLEAN, snr_db=(90.0, 90.0))
"""Speech that is to be put into a room before noise comes to it."""
ROOM_SNR_DB: Final = (10.0, 30.0)
RT60: Final = (0.2, 0.6)
BATCHES: Final = (1, 8, 32)
ARCHIVE: Final = "s3://features/calls"
TRAINING: Final = TrainingConfig(
    steps=2750,
    averaged_checkpoints=5,
    augmentation=Augmentation(rooms=0.6, noise=0.3, voices=0.5),
)


class Said(NamedTuple):
    """One utterance to recognise."""

    speaker: str
    text: str
    samples: Samples


# Speech.


def archive(home: Path) -> InMemoryObjects:
    """Features of the training and development calls, made once for each `home`."""
    path = home / "calls.safetensors"
    if not path.exists():
        path.write_bytes(_shard())
    body = path.read_bytes()
    shard = {"name": path.name, "sha256": hashlib.sha256(body).hexdigest()}
    objects = InMemoryObjects()
    objects.put(f"{ARCHIVE}/{path.name}", body)
    objects.put(f"{ARCHIVE}/manifest.json", json.dumps({"shards": [shard]}).encode())
    return objects


def _shard() -> bytes:
    rows, matrices = [], []
    for split in ("train", "dev"):
        for one in utterances(CLEAN, split):
            matrices.append(log_mel(one.samples).astype(np.float16))
            row = {"id": str(len(rows)), "split": split, "text": one.text}
            rows.append(row | {"frames": len(matrices[-1])})
    return save({"features": np.concatenate(matrices)}, metadata={"rows": json.dumps(rows)})


def _calls(corpus: SyntheticCorpus, split: Split) -> Iterator[SyntheticCall]:
    speakers = getattr(corpus.speakers, split)
    return calls(corpus, split, speakers, getattr(corpus.utterances_per_speaker, split))


def utterances(corpus: SyntheticCorpus, split: Split) -> Iterator[Said]:
    """All that the speakers of a split say."""
    for call in _calls(corpus, split):
        for text, samples in call.utterances:
            yield Said(call.speaker, text, samples)


def reverberant(split: Split) -> Iterator[Said]:
    """The same in a room for each speaker, then in noise."""
    rng = np.random.default_rng(7)
    for call in _calls(SILENT, split):
        room = response(rng.uniform(*RT60), rng)
        snr_db = rng.uniform(*ROOM_SNR_DB)
        for text, samples in call.utterances:
            heard = add_noise(in_room(samples, room), snr_db, rng)
            yield Said(call.speaker, text, heard)


# Words.


def transcripts(recogniser: Recogniser, said: Sequence[Said], together: int) -> list[str]:
    """What is heard with `together` recordings in each step of the graph, in the order given."""
    architecture = recogniser.bundle.architecture
    features = [log_mel(one.samples) for one in said]
    order = sorted(range(len(said)), key=lambda index: len(features[index]))
    heard = [""] * len(said)
    for start in range(0, len(order), together):
        part = order[start : start + together]
        frames = architecture.padded_frames(max(len(features[index]) for index in part))
        x = np.full((len(part), frames, MEL_BINS), FLOOR, np.float32)
        for row, index in zip(x, part, strict=True):
            row[: len(features[index])] = features[index]
        for answer, index in zip(recogniser.graph.run_whole(x), part, strict=True):
            kept = answer[architecture.outputs(len(features[index]))]
            heard[index] = decoding.transcribe(kept, recogniser.tokenizer).text
    return heard


def word_error_rate(bundle: Path, said: Sequence[Said], precision: Precision, size: int) -> float:
    """Errors over words of the references."""
    heard = transcripts(Recogniser.load(bundle, precision), said, size)
    pairs = zip(said, heard, strict=True)
    return total(count_words(one.text, text) for one, text in pairs).rate


def int8_loss(bundle: Path, said: Sequence[Said]) -> float:
    """WER of the int8 file less that of the fp32 file, the worst of the batch sizes."""
    losses = []
    for size in BATCHES:
        int8, fp32 = (word_error_rate(bundle, said, each, size) for each in ("int8", "fp32"))
        print(f"batches of {size}: int8 {int8:.4f}, fp32 {fp32:.4f}", flush=True)
        losses.append(int8 - fp32)
    return max(losses)


# Training.


def train_counted(
    config: TrainingConfig, objects: InMemoryObjects, home: Path
) -> tuple[TrainingSummary, float]:
    """Train a bundle in `home`; returns what came out and the CPU seconds of all processes."""
    os.environ["OMP_NUM_THREADS"] = "1"  # a thread that waits for another counts as well
    for name in ("bundle", "work"):
        shutil.rmtree(home / name, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = train(
        config,
        sets=[FeatureSet(role="new", archive=f"{ARCHIVE}/manifest.json")],
        base_bundle=None,
        output=home / "bundle",
        work=home / "work",
        launcher=TorchrunLauncher(objects, home / "cache"),
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return summary, cpu


def measure(home: Path, config: TrainingConfig, split: Split) -> dict[str, float]:
    """Train and judge; returns each figure."""
    objects = archive(home)
    summary, cpu = train_counted(config, objects, home)
    print(f"{summary.audio_seconds_per_second:.0f} audio s/s, {cpu:.0f} CPU seconds", flush=True)
    clean, rooms = list(utterances(CLEAN, split)), list(reverberant(split))
    words = sum(len(one.text.split()) for one in clean)
    print(f"{len(vocabulary())} words of grammar; {len({one.speaker for one in clean})} speakers,")
    print(f"{words} words to recognise", flush=True)
    return {
        "synthetic_training_cpu": cpu,
        "synthetic_clean_wer": word_error_rate(home / "bundle", clean, SERVED, 8),
        "synthetic_reverb_wer": word_error_rate(home / "bundle", rooms, SERVED, 8),
        "int8_wer_loss": int8_loss(home / "bundle", clean + rooms),
    }


UNITS: Final = {"synthetic_training_cpu": "CPU seconds", "int8_wer_loss": "absolute WER"}


def main() -> None:
    """Measure; what was measured on the test speakers with the whole recipe is recorded."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("--without", nargs="*", default=[], help="augmentations to leave out")
    parser.add_argument("--workers", type=int, default=TRAINING.workers)
    parser.add_argument("--steps", type=int, default=TRAINING.steps)
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    given = parser.parse_args()
    augmentation = replace(TRAINING.augmentation, **dict.fromkeys(given.without, 0.0))
    config = replace(TRAINING, augmentation=augmentation, workers=given.workers, steps=given.steps)
    with tempfile.TemporaryDirectory() as temporary:
        home = given.home or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        found = measure(home, config, given.split)
    for figure, value in found.items():
        print(f"{figure}: {value:.4f}")
    if found["synthetic_training_cpu"] > CPU_SECONDS:
        raise SystemExit(f"Training took more than {CPU_SECONDS:.0f} CPU seconds; lower --steps.")
    if given.split == "test" and config == TRAINING:
        for figure, value in found.items():
            record("speech", figure, value, UNITS.get(figure, "WER"), COMMAND)


if __name__ == "__main__":
    main()
