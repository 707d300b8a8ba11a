"""Write a trained recogniser as a bundle, and read its weights back to go on training.

torch is imported inside the functions: `verify` is re-exported for those who only read.
"""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from hearloop import features
from hearloop.architecture import DOWNSAMPLING, STATES
from hearloop.bundle import FAMILY, FILES, FORMAT, MANIFEST, Bundle, verify
from hearloop.errors import IntegrityError
from hearloop.graph import Graph
from hearloop.tokenizer import Tokenizer

if TYPE_CHECKING:
    from hearloop.model import Network

__all__ = ["Bundle", "load_network", "verify", "write_bundle"]

_CHUNKS: Final = (4, 16, 64)
"""Frames of the pieces in which the exported graph is compared with torch."""
_TOLERANCE: Final = 1e-3
"""Largest difference of log-probabilities between torch and the graph; float32 gives 1e-5."""


def write_bundle(
    directory: Path, network: "Network", tokenizer: Tokenizer, *, training: str
) -> Bundle:
    """Write a bundle, all of it or nothing; one that is there already is replaced.

    Args:
        directory: where the bundle shall be.
        network: the trained network, on any device.
        tokenizer: its characters.
        training: digest of the recipe and data that it was trained with.

    Raises:
        IntegrityError: the exported graph does not compute what the network computes.
    """
    from safetensors.torch import save_file

    directory.parent.mkdir(parents=True, exist_ok=True)
    network = network.eval().cpu()
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".bundle-") as temporary:
        draft = Path(temporary) / "draft"
        draft.mkdir()
        save_file(network.state_dict(), draft / "model.safetensors")
        tokenizer.save(draft / "tokens.txt")
        _write_graph(network, draft / "model.onnx")
        _check_parity(network, draft / "model.onnx")
        config = {
            "format": FORMAT,
            "family": FAMILY,
            "architecture": asdict(network.architecture),
            "features": features.CONFIGURATION,
            "training": training,
        }
        (draft / "config.json").write_text(_json(config), encoding="utf-8")
        files = {name: _entry(draft / name) for name in FILES}
        (draft / MANIFEST).write_text(_json({"files": files}), encoding="utf-8")
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(draft, directory)
    return verify(directory)


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _entry(path: Path) -> dict[str, str | int]:
    body = path.read_bytes()
    return {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}


def load_network(bundle: Bundle) -> "Network":
    """The network of a verified bundle, in evaluation mode."""
    from safetensors.torch import load_file

    from hearloop.model import Network

    network = Network(bundle.architecture)
    network.load_state_dict(load_file(bundle.directory / "model.safetensors"))
    return network.eval()


def _write_graph(network: "Network", path: Path) -> None:
    """Write the streaming graph; streams (N) and frames (T) are free."""
    import torch

    from hearloop.model import Streaming, StreamStates

    outputs = ("log_probs", *(f"next_{name}" for name in STATES))
    free = {name: {0: "N"} for name in (*STATES, *outputs[1:])}
    example = (torch.zeros(2, 4 * DOWNSAMPLING, features.MEL_BINS), *network.initial_states(2))
    with warnings.catch_warnings():
        # The tracing exporter is announced to go one day. With torch 2.14 it is the better one
        # for this graph: 0.2 s and folded LSTM weights, where the new one takes 12 s, cuts the
        # weights apart at run time and declares the number of output frames as fixed.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Streaming(network),
            example,
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["x", *STATES],
            output_names=list(outputs),
            dynamic_axes=free | {"x": {0: "N", 1: "T"}, "log_probs": {0: "N", 1: "T_out"}},
        )
    assert StreamStates._fields == STATES


def _check_parity(network: "Network", path: Path) -> None:
    """Stream three utterances through torch and through the graph, chunk by chunk."""
    import torch

    from hearloop.model import StreamStates

    graph = Graph(path, network.architecture)
    noise = np.random.default_rng(0)
    states = network.initial_states(3)
    others = graph.initial_states(3)
    for frames in _CHUNKS:
        x = noise.normal(-6.0, 4.0, (3, frames, features.MEL_BINS)).astype(np.float32)
        with torch.inference_mode():
            expected, after = network(torch.from_numpy(x), StreamStates(*states))
        found, others = graph.run(x, others)
        states = after
        pairs = [(expected, found), *zip(after, others, strict=True)]
        worst = max(float(np.abs(a.numpy() - b).max()) for a, b in pairs)
        if not worst <= _TOLERANCE:
            raise IntegrityError(
                f"The exported graph differs from the network by {worst:.2g} in a chunk of "
                f"{frames} frames, more than {_TOLERANCE:g}; do not deploy it, check the exporter."
            )
