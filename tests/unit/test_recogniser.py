import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from hearloop import export
from hearloop.architecture import Architecture
from hearloop.errors import IntegrityError, InvalidTranscript
from hearloop.features import Samples
from hearloop.model import Network
from hearloop.recogniser import Recogniser
from hearloop.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights: it writes nonsense, the same nonsense each time."""
    tokenizer = Tokenizer("ab ")
    architecture = Architecture(vocabulary=len(tokenizer), front_channels=8, hidden=16, layers=2)
    torch.manual_seed(2)
    network = Network(architecture)
    with torch.no_grad():  # large weights, or else it would write the same character throughout
        network.mean -= 6.0
        network.output.weight *= 10.0
        for weight in network.recurrent.parameters():
            weight *= 3.0
    directory = tmp_path_factory.mktemp("model") / "bundle"
    export.write_bundle(directory, network, tokenizer, training="none")
    return directory


@pytest.fixture(scope="module", params=["fp32", "int8"])
def recogniser(directory: Path, request: pytest.FixtureRequest) -> Recogniser:
    return Recogniser.load(directory, request.param)


def noise(seconds: float, seed: int = 0) -> Samples:
    generator = np.random.default_rng(seed)
    loudness = np.repeat(generator.uniform(0.001, 0.3, 40), int(seconds * 400))
    return (loudness * generator.normal(0, 1, len(loudness))).astype(np.float32)


def test_a_recording_s_transcript_does_not_depend_on_its_neighbours(
    recogniser: Recogniser,
) -> None:
    recordings = [noise(seconds, seed) for seed, seconds in enumerate((0.3, 2.0, 0.1, 40.0, 1.1))]
    together = recogniser.transcribe_many(recordings)
    alone = [recogniser.transcribe(samples) for samples in recordings]
    assert [transcript.text for transcript in together] == [t.text for t in alone]
    assert len({transcript.text for transcript in together}) == len(recordings)


def test_threads_do_not_disturb_each_other(recogniser: Recogniser) -> None:
    recordings = [noise(0.5, seed) for seed in range(16)]
    expected = [recogniser.transcribe(samples).text for samples in recordings]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda samples: recogniser.transcribe(samples).text, recordings))
    assert found == expected


def test_words_lie_within_the_recording_and_its_tail(recogniser: Recogniser) -> None:
    transcript = recogniser.transcribe(noise(1.0))
    times = [(word.start_s, word.end_s) for word in transcript.words]
    assert all(0 <= start < end <= 1.1 for start, end in times)
    assert times == sorted(times)
    assert all(0 <= word.confidence <= 1 for word in transcript.words)


def test_no_audio_at_all_is_no_error(recogniser: Recogniser) -> None:
    nothing = np.empty(0, np.float32)
    assert len(recogniser.transcribe_many([nothing, nothing])) == 2
    assert recogniser.transcribe_many([]) == []


def test_what_it_heard_is_more_plausible_than_something_else(recogniser: Recogniser) -> None:
    samples = noise(1.0)
    heard = recogniser.transcribe(samples).text
    said, other = recogniser.plausibilities(samples, [heard, "bbbbb a"])
    assert said > other
    with pytest.raises(InvalidTranscript):
        recogniser.plausibilities(samples, ["ÜBER"])


def test_does_not_load_a_damaged_bundle(directory: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    (copy / "model.onnx").write_bytes(b"no model")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        Recogniser.load(copy)


def test_loads_without_torch_and_lhotse(directory: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hearloop.recogniser import Recogniser; "
        f"Recogniser.load(Path({str(directory)!r})); import hearloop.export; "
        "sys.exit(bool({'torch', 'lhotse', 'onnx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
