"""Tiny recognisers with random weights: they write nonsense, the same nonsense each time."""

from pathlib import Path

import numpy as np
import torch

from hearloop import export
from hearloop.architecture import Architecture
from hearloop.features import Samples
from hearloop.model import Network
from hearloop.tokenizer import Tokenizer

__all__ = ["noise", "write_random_bundle"]


def write_random_bundle(
    directory: Path,
    seed: int,
    *,
    hidden: int = 16,
    training: str = "none",
    language: str = "en",
    symbols: str = "ab ",
) -> Path:
    """Write a bundle whose weights are drawn by `seed`; another seed writes other texts."""
    tokenizer = Tokenizer(symbols, language=language)
    architecture = Architecture(
        vocabulary=len(tokenizer), front_channels=8, hidden=hidden, layers=2
    )
    torch.manual_seed(seed)
    network = Network(architecture)
    with torch.no_grad():  # large weights, or else it would write one character throughout
        network.mean -= 6.0
        network.output.weight *= 10.0
        for weight in network.recurrent.parameters():
            weight *= 3.0
    export.write_bundle(directory, network, tokenizer, training=training)
    return directory


def noise(seconds: float, seed: int = 0) -> Samples:
    """(n,) samples of noise that swells, so that a random network has something to write."""
    generator = np.random.default_rng(seed)
    loudness = np.repeat(generator.uniform(0.001, 0.3, 40), int(seconds * 400))
    return np.clip(loudness * generator.normal(0, 1, len(loudness)), -1, 1).astype(np.float32)
