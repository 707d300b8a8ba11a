"""The exported model in sherpa-onnx, unmodified: the same text as our own recogniser."""

from pathlib import Path

import numpy as np
import pytest
import sherpa_onnx
import torch

from hearloop import export
from hearloop.architecture import Architecture
from hearloop.bundle import GRAPHS, Precision
from hearloop.features import SAMPLE_RATE, Samples
from hearloop.model import Network
from hearloop.recogniser import Recogniser
from hearloop.sherpa import write_sherpa
from hearloop.tokenizer import Tokenizer
from tests.unit.streaming.conftest import voice

TAIL = np.zeros(SAMPLE_RATE, np.float32)
"""What brings out the last word: sherpa-onnx decodes whole steps only."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights: it writes nonsense, the same nonsense each time."""
    tokenizer = Tokenizer("ab ")
    architecture = Architecture(vocabulary=len(tokenizer), front_channels=8, hidden=16, layers=3)
    torch.manual_seed(2)
    network = Network(architecture)
    with torch.no_grad():
        network.mean -= 6.0
        network.output.weight *= 10.0
        for weight in network.recurrent.parameters():
            weight *= 3.0
    directory = tmp_path_factory.mktemp("model") / "bundle"
    export.write_bundle(directory, network, tokenizer, training="none")
    return directory


def sherpa(directory: Path, recordings: list[Samples]) -> list[str]:
    """What sherpa-onnx hears in recordings that it decodes as one batch of streams."""
    engine = sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(
        tokens=str(directory / "tokens.txt"), model=str(directory / "model.onnx"), num_threads=1
    )
    streams = []
    for samples in recordings:
        stream = engine.create_stream()
        stream.accept_waveform(SAMPLE_RATE, np.concatenate([samples, TAIL]))
        stream.input_finished()
        streams.append(stream)
    while ready := [stream for stream in streams if engine.is_ready(stream)]:
        engine.decode_streams(ready)
    return [engine.get_result(stream) for stream in streams]


@pytest.mark.parametrize("precision", GRAPHS)
def test_sherpa_onnx_writes_the_same_text(
    bundle: Path, tmp_path: Path, precision: Precision
) -> None:
    ours = Recogniser.load(bundle, precision)
    write_sherpa(ours.bundle, tmp_path, precision)
    recordings = [np.concatenate([voice(0.8 + 0.3 * n, n), TAIL]) for n in range(6)]
    heard = [" ".join(text.split()) for text in sherpa(tmp_path, recordings)]
    padded = [np.concatenate([samples, TAIL]) for samples in recordings]
    expected = [transcript.text for transcript in ours.transcribe_many(padded)]
    assert len(set(expected)) > 3
    assert heard == expected
