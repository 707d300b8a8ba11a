"""Networks as ONNX graphs that torch traces, in float32 and with int8 products of matrices.

For families whose graph is not written by hand (`hearloop.onnx_graph`). In the int8 graph every
product with a constant matrix has weights in int8 per output channel; what is multiplied is scaled
row by row, so that a stream's result does not depend on the others of its batch.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from hearloop.architecture import DOWNSAMPLING
from hearloop.bundle import GRAPHS
from hearloop.model import Model
from hearloop.model.conformer import Conformer, Decoder

__all__ = ["ZipformerStates", "quantise", "trace", "write"]

_OPSET: Final = 20
_LARGEST: Final = 127.0
"""Of int8, symmetric."""
_TINY: Final = 1e-9
"""Keeps rows of zeros from being divided by zero."""
_EXAMPLE: Final = 2
"""Streams, chunks, texts of the example that is traced; sizes of 1 would be taken for fixed."""


def write(directory: Path, network: Model) -> None:
    """Write the graphs of a network in evaluation mode, on the CPU, into a bundle's directory."""
    shape = network.architecture
    states = network.initial_states(_EXAMPLE)
    frames = shape.chunk_frames if shape.streaming else 16 * _EXAMPLE
    names = list(shape.state_shapes(1))
    free = {0: "N"} if shape.streaming else {0: "N", 1: "T"}
    model = trace(
        _Step(network),
        (torch.full((_EXAMPLE, frames, shape.bins), shape.silence), *states),
        inputs=["x", *names],
        outputs=["log_probs", *(f"next_{name}" for name in names)],
        free=[free, *({0: "N"} for _ in names)],
    )
    onnx.save(model, directory / GRAPHS["fp32"])
    onnx.save(quantise(model), directory / GRAPHS["int8"])
    if isinstance(network, Conformer) and network.decoder:
        hidden = network.architecture.hidden
        onnx.save(_decoder(network.decoder, hidden), directory / shape.attachments[0])


class _Step(nn.Module):
    """A step of a network with its states as separate inputs and outputs."""

    def __init__(self, network: Model) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, *states = inputs
        if isinstance(self.network, Conformer) and self.network.decoder:
            encoded, after = self.network.encode_next(x, states)
            return self.network.classify(encoded), *after, encoded
        log_probs, after = self.network(x, states)
        return log_probs, *after


class ZipformerStates(nn.Module):
    """A step of a Conformer whose states are in the places of a zipformer2's (`hearloop.sherpa`).

    Per layer six of them: keys (L, N, D), nonlin, values (L, N, D), a second cache of values, the
    convolution's (N, D, k - 1) and a second one; what we do not have passes through. The first two
    layers are the two convolutions of the front end. At the end an unused one, and how many feature
    frames each stream has had.
    """

    def __init__(self, network: Model) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Inputs and outputs in the contract's order."""
        x, *flat, embed, frames = inputs
        rows = [flat[at : at + 6] for at in range(0, len(flat), 6)]
        front, middle, *blocks = rows
        left = self.network.architecture.state_shapes(1)["keys"][2]
        states = (
            front[4],
            middle[4],
            torch.stack([row[0].transpose(0, 1) for row in blocks], 1),
            torch.stack([row[2].transpose(0, 1) for row in blocks], 1),
            torch.stack([row[4] for row in blocks], 1),
            (frames[:, None] // DOWNSAMPLING).clamp(max=left).to(x.dtype),
        )
        log_probs, after = self.network(x, states)
        front[4], middle[4], keys, values, convolved, _ = after
        for layer, row in enumerate(blocks):
            row[0] = keys[:, layer].transpose(0, 1)
            row[2] = values[:, layer].transpose(0, 1)
            row[4] = convolved[:, layer]
        passed = [state.clone() for row in rows for state in row]
        return log_probs, *passed, embed.clone(), frames + x.shape[1]


class _Heard(nn.Module):
    """A decoder that hears all of what is given to it."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, *inputs: Tensor) -> Tensor:
        encoded, begun = inputs
        within = torch.ones(encoded.shape[:2], dtype=torch.bool)
        return self.decoder(encoded, begun, within)


def _decoder(decoder: Decoder, hidden: int) -> onnx.ModelProto:
    return trace(
        _Heard(decoder),
        (torch.zeros(_EXAMPLE, 7, hidden), torch.zeros(_EXAMPLE, 5, dtype=torch.long)),
        inputs=["encoded", "begun"],
        outputs=["log_probs"],
        free=[{0: "N", 1: "T"}, {0: "N", 1: "L"}],
    )


def trace(
    module: nn.Module,
    example: tuple[Tensor, ...],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    free: Sequence[dict[int, str]],
) -> onnx.ModelProto:
    """The graph of a module.

    Args:
        module: takes any number of tensors.
        example: its arguments.
        inputs: their names.
        outputs: names of the results; further results are named `encoded`.
        free: of each argument the dimensions that may differ, with their names.
    """
    dimensions = {name: torch.export.Dim.DYNAMIC for each in free for name in each.values()}
    shapes = tuple({axis: dimensions[name] for axis, name in each.items()} for each in free)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of torchvision's absence
    with torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            example,
            input_names=list(inputs),
            dynamic_shapes=(shapes,),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def quantise(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its constant matrices in int8."""
    small = onnx.ModelProto()
    small.CopyFrom(model)
    graph = small.graph
    matrices = {each.name: each for each in graph.initializer if len(each.dims) == 2}
    nodes: list[onnx.NodeProto] = []
    rounded = _Rounded(nodes)
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in matrices:
            weight = numpy_helper.to_array(matrices[node.input[1]])
            rounded.product(node.input[0], node.input[1], weight, node.output[0])
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(rounded.constants.values())
    used = {name for node in nodes for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    if rounded.constants:
        small.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return small


class _Rounded:
    """Products in eight bits; what several of them multiply is rounded once."""

    def __init__(self, nodes: list[onnx.NodeProto]) -> None:
        self.constants: dict[str, onnx.TensorProto] = {}
        self._nodes = nodes
        self._done: dict[str, tuple[str, str]] = {}

    def product(
        self, x: str, name: str, weight: np.ndarray[Any, np.dtype[np.float32]], result: str
    ) -> None:
        """`result` becomes `x` times a matrix (in, out)."""
        if x not in self._done:
            self._done[x] = self._round(x)
        whole, unit = self._done[x]
        scale = np.maximum(np.abs(weight).max(axis=0) / _LARGEST, _TINY).astype(np.float32)
        inputs = [
            whole,
            self._constant(f"{name}_int8", np.rint(weight / scale).astype(np.int8)),
            self._constant("int8_one", np.float32(1)),
            self._constant(f"{name}_scale", scale),
            self._constant("int8_middle", np.uint8(128)),
        ]
        product = self._add("MatMulIntegerToFloat", *inputs, domain="com.microsoft")
        self._nodes.append(helper.make_node("Mul", [product, unit], [result]))

    def _round(self, x: str) -> tuple[str, str]:
        """Whole numbers, and what one of them is worth in each row."""
        last = self._constant("int8_last", np.array([-1]))
        largest = self._add("ReduceMax", self._add("Abs", x), last, keepdims=1)
        row = self._add("Max", largest, self._constant("int8_tiny", np.float32(_TINY)))
        unit = self._add("Mul", row, self._constant("int8_part", np.float32(1 / _LARGEST)))
        steps = [self._constant("int8_one", np.float32(1))]
        steps.append(self._constant("int8_middle", np.uint8(128)))
        return self._add("QuantizeLinear", self._add("Div", x, unit), *steps), unit

    def _add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        name = f"int8_{operation}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def _constant(self, name: str, value: Any) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(np.asarray(value), name))
        return name
