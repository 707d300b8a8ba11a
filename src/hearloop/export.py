"""Write a trained recogniser as a bundle, and read its weights back to go on training.

torch and onnx are imported inside the functions: `verify` is re-exported for those who only read.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from hearloop.architecture import Architecture
from hearloop.bundle import FILES, FORMAT, GRAPHS, MANIFEST, UNIT_FILES, Bundle, Units, verify
from hearloop.errors import IntegrityError
from hearloop.graph import Graph
from hearloop.tokenizer import Tokenizer

if TYPE_CHECKING:
    from hearloop.model import Model

__all__ = ["Bundle", "load_network", "verify", "write_bundle"]

_CHUNKS: Final = (4, 16, 64)
"""Frames of the pieces in which a graph is compared with torch, where it takes any."""
_BATCHES: Final = (1, 8, 32)
"""Streams at a time: kernels differ by size."""
_TOLERANCE: Final[Mapping[str, float]] = {"fp32": 1e-4, "int8": 0.05}
"""Largest mean distance of the distributions: float32 gives 1e-6, int8 2e-3 when trained."""


def write_bundle(
    directory: Path, network: "Model", tokenizer: Tokenizer, *, training: str
) -> Bundle:
    """Write a bundle, all of it or nothing; one that is there already is replaced.

    Args:
        directory: where the bundle shall be.
        network: the trained network, on any device.
        tokenizer: its characters.
        training: digest of the recipe and data that it was trained with.

    Raises:
        IntegrityError: an exported graph does not compute what the network computes.
    """
    from safetensors.torch import save_file

    directory.parent.mkdir(parents=True, exist_ok=True)
    network = deepcopy(network).eval().cpu()  # a copy is not compiled
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".bundle-") as temporary:
        draft = Path(temporary) / "draft"
        draft.mkdir()
        save_file(network.state_dict(), draft / "model.safetensors")
        tokenizer.save(draft / "tokens.txt")
        _write_graphs(network, draft)
        _check_parity(network, draft)
        units: Units = "sentencepiece" if tokenizer.pieces else "characters"
        config = {
            "format": FORMAT,
            "family": network.architecture.kind,
            "architecture": asdict(network.architecture),
            "features": network.architecture.feature_configuration,
            "training": training,
            "language": tokenizer.language,
            "units": units,
        }
        (draft / "config.json").write_text(_json(config), encoding="utf-8")
        held = (*FILES, *network.architecture.attachments, *UNIT_FILES[units])
        files = {name: _entry(draft / name) for name in held}
        (draft / MANIFEST).write_text(_json({"files": files}), encoding="utf-8")
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(draft, directory)
    return verify(directory)


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _entry(path: Path) -> dict[str, str | int]:
    body = path.read_bytes()
    return {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}


def load_network(bundle: Bundle) -> "Model":
    """The network of a verified bundle, in evaluation mode."""
    from safetensors.torch import load_file

    from hearloop.model import build

    network = build(bundle.architecture)
    network.load_state_dict(load_file(bundle.directory / "model.safetensors"))
    return network.eval()


def _write_graphs(network: "Model", directory: Path) -> None:
    if not isinstance(network.architecture, Architecture):
        from hearloop import traced_graph

        traced_graph.write(directory, network)
        return
    from hearloop import onnx_graph

    weights = {name: weight.numpy() for name, weight in network.state_dict().items()}
    for precision, name in GRAPHS.items():
        onnx_graph.write(directory / name, weights, network.architecture, precision)


def _check_parity(network: "Model", directory: Path) -> None:
    """Stream noise through torch and through each graph, chunk by chunk, at several batch sizes.

    Raises IntegrityError where a graph computes something else.
    """
    for precision, name in GRAPHS.items():
        graph = Graph(directory / name, network.architecture)
        chunks = _CHUNKS if graph.frames is None else (graph.frames,) * len(_CHUNKS)
        for streams in _BATCHES:
            worst = max(_differences(network, graph, streams, chunks))
            if not worst <= _TOLERANCE[precision]:
                raise IntegrityError(
                    f"The {precision} graph differs from the network by {worst:.2g} with "
                    f"{streams} streams, more than {_TOLERANCE[precision]:g}; do not deploy it, "
                    "check the exporter."
                )


def _differences(
    network: "Model", graph: Graph, streams: int, chunks: Sequence[int]
) -> Iterator[float]:
    """Mean distance in total variation of the distributions in each chunk."""
    import torch

    noise, shape = np.random.default_rng(0), network.architecture
    states, others = network.initial_states(streams), graph.initial_states(streams)
    loudness = (-6.0, 4.0) if shape.silence else (0.0, 0.1)
    for frames in chunks:
        x = noise.normal(*loudness, (streams, frames, shape.bins)).astype(np.float32)
        with torch.inference_mode():
            expected, states = network(torch.from_numpy(x), states)
        found, others = graph.run(x, others)
        yield float(np.abs(np.exp(expected.numpy()) - np.exp(found)).sum(axis=2).mean()) / 2
