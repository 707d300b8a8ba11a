import os
import threading
import weakref
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from hearloop import export, nonspeech
from hearloop.architecture import Architecture
from hearloop.audio import Samples
from hearloop.bundle import Bundle
from hearloop.datasets import CutRow
from hearloop.errors import InvalidInput
from hearloop.evaluation import JudgedRows, agreement, evaluate
from hearloop.model import Network
from hearloop.quality import Quality
from hearloop.recogniser import Recogniser
from hearloop.scores import CHALLENGER, CHAMPION, GOLDEN, NEW, Evaluation
from hearloop.tokenizer import Tokenizer


def random_model(directory: Path, seed: int) -> Recogniser:
    """A network with random weights: it writes nonsense, the same nonsense each time."""
    tokenizer = Tokenizer("ab ")
    architecture = Architecture(vocabulary=len(tokenizer), front_channels=8, hidden=16, layers=2)
    torch.manual_seed(seed)
    network = Network(architecture)
    with torch.no_grad():  # large weights, or else it would write the same character throughout
        network.mean -= 6.0
        network.output.weight *= 10.0
        for weight in network.recurrent.parameters():
            weight *= 3.0
    export.write_bundle(directory, network, tokenizer, training="none")
    return Recogniser.load(directory)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recogniser]:
    folder = tmp_path_factory.mktemp("models")
    return {
        CHAMPION: random_model(folder / "champion", 2),
        CHALLENGER: random_model(folder / "challenger", 3),
    }


def row(number: int) -> CutRow:
    return CutRow(
        id=f"u{number:03}",
        split="test",
        text="ab ba",
        speaker=f"s{number % 5}",
        call=f"c{number % 5}",
        accent="en-us",
        language="en",
        source="synthetic",
        contributor=None,
        correction=None,
        recorded_at=datetime(2025, 1, 1, tzinfo=UTC),
        seconds=1.0,
        sample_rate=16_000,
        audio_digest=f"{number:064x}",
        audio_uri=f"s3://audio/{number}.flac",
        quality=Quality(
            duration_s=1.0,
            snr_db=5.0 + 10.0 * number,
            bandwidth_hz=7600.0,
            loudness_dbfs=-20.0,
            clipping=0.0,
            silence=0.1,
        ),
    )


def audio(one: CutRow) -> Samples:
    """Noise that swells and fades, different for each utterance."""
    generator = np.random.default_rng(int(one.id[1:]))
    loudness = np.repeat(generator.uniform(0.001, 0.3, 40), 400)
    return (loudness * generator.normal(0, 1, len(loudness))).astype(np.float32)


def judged(start: int, end: int) -> JudgedRows:
    return JudgedRows(
        snapshots=("digest",), rows=tuple(row(number) for number in range(start, end))
    )


class Counting:
    def __init__(self) -> None:
        self.amount = 0.0
        self._lock = threading.Lock()

    def advance(self, amount: float = 1.0) -> None:
        with self._lock:
            self.amount += amount


@pytest.fixture(scope="module")
def evaluation(models: dict[str, Recogniser]) -> Evaluation:
    return evaluate({GOLDEN: judged(0, 70), NEW: judged(70, 75)}, models, audio=audio)


def test_every_utterance_is_scored_once_and_in_order(
    models: dict[str, Recogniser], evaluation: Evaluation
) -> None:
    golden = evaluation.sets[GOLDEN].utterances
    assert [one.id for one in golden] == [f"u{number:03}" for number in range(70)]
    for one in (golden[0], golden[69]):
        for role, model in models.items():
            said = model.transcribe(audio(row(int(one.id[1:]))))
            assert one.answers[role].text == said.text
            assert one.answers[role].confidence == pytest.approx(said.confidence, abs=1e-4)
    assert golden[0].slices["accent"] == "en-us"
    assert set(golden[0].slices) == {"accent", "duration", "snr", "source"}


def test_the_models_are_weighed_and_timed(
    models: dict[str, Recogniser], evaluation: Evaluation
) -> None:
    challenger = evaluation.models[CHALLENGER]
    assert challenger.version == models[CHALLENGER].bundle.digest
    assert 0 < challenger.real_time_factor < 5
    files = models[CHALLENGER].bundle.directory.iterdir()
    assert challenger.size_bytes == sum(path.stat().st_size for path in files)
    assert challenger.agreement == 1.0
    assert evaluation.models[CHAMPION].agreement is None


def test_what_is_heard_without_speech_is_kept(
    models: dict[str, Recogniser], evaluation: Evaluation
) -> None:
    clips = list(nonspeech.clips())
    assert [clip.kind for clip in evaluation.clips] == [clip.kind for clip in clips]
    heard = models[CHAMPION].transcribe(clips[1].samples).text
    assert evaluation.clips[1].heard[CHAMPION] == heard


def test_agreement_sees_an_export_of_other_weights(models: dict[str, Recogniser]) -> None:
    recordings = [audio(row(number)) for number in range(6)]
    mixed = Recogniser(
        models[CHALLENGER].bundle, models[CHAMPION].graph, models[CHALLENGER].tokenizer
    )
    assert agreement(models[CHALLENGER], recordings) == 1.0
    assert agreement(mixed, recordings) == 0.0


def test_agreement_sees_one_weight_that_was_exported_wrong(
    models: dict[str, Recogniser], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_network = export.load_network

    def damaged(bundle: Bundle) -> Network:
        network = load_network(bundle)
        with torch.no_grad():
            network.output.bias[1] += 0.1
        return network

    recordings = [audio(row(number)) for number in range(6)]
    monkeypatch.setattr("hearloop.export.load_network", damaged)
    assert agreement(models[CHALLENGER], recordings) == 0.0


def test_progress_versions_and_slices(
    models: dict[str, Recogniser],
) -> None:
    progress = Counting()
    found = evaluate(
        {NEW: judged(0, 3)},
        {CHALLENGER: models[CHALLENGER]},
        audio=audio,
        versions={CHALLENGER: "7"},
        progress=progress,
    )
    assert progress.amount == 3
    assert found.models[CHALLENGER].version == "7"
    assert [one.slices["snr"] for one in found.sets[NEW].utterances] == [
        "under 10 dB",
        "10 to 20 dB",
        "20 dB or more",
    ]


@pytest.mark.parametrize("rows", [(), (row(1), row(1))])
def test_an_empty_set_and_a_repeated_utterance_are_refused(
    models: dict[str, Recogniser], rows: tuple[CutRow, ...]
) -> None:
    with pytest.raises(InvalidInput, match="'golden'"):
        evaluate({GOLDEN: JudgedRows(snapshots=(), rows=rows)}, models, audio=audio)


def test_only_the_recordings_of_a_batch_are_held(models: dict[str, Recogniser]) -> None:
    held: list[weakref.ref[Samples]] = []
    lock, most = threading.Lock(), 0

    def read(one: CutRow) -> Samples:
        nonlocal held, most
        recording = audio(one)[:1600]
        with lock:
            held = [*(other for other in held if other() is not None), weakref.ref(recording)]
            most = max(most, len(held))
        return recording

    evaluate({GOLDEN: judged(0, 800)}, {CHALLENGER: models[CHALLENGER]}, audio=read)
    assert most <= 32 * (os.cpu_count() or 1) + 32
