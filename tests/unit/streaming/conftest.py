"""A recogniser with random weights: it writes nonsense, the same nonsense each time."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hearloop import export
from hearloop.architecture import Architecture
from hearloop.features import Samples
from hearloop.model import Network
from hearloop.recogniser import Recogniser
from hearloop.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def babbling_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


@pytest.fixture(scope="session", params=["fp32", "int8"])
def recogniser(babbling_bundle: Path, request: pytest.FixtureRequest) -> Recogniser:
    return Recogniser.load(babbling_bundle, request.param)


def voice(seconds: float, seed: int = 0) -> Samples:
    """A buzz whose vowels change ten times a second: the detector takes it for a voice."""
    generator = np.random.default_rng(seed)
    length = int(seconds * 16_000)
    source = np.zeros(length)
    source[:: int(generator.integers(90, 160))] = 1.0
    source += generator.normal(0, 0.02, length)
    samples = np.zeros(length)
    for start in range(0, length, 1600):
        hertz = generator.uniform([250, 800, 2000], [800, 2000, 3500])
        times = np.arange(400) / 16_000
        mouth = sum(np.exp(-60 * times) * np.sin(2 * np.pi * each * times) for each in hertz)
        piece = np.convolve(source[start : start + 1600], mouth)[: length - start]
        samples[start : start + len(piece)] += piece * generator.uniform(0.3, 1.0)
    return (0.3 * samples / np.abs(samples).max()).astype(np.float32)
