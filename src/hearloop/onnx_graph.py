"""The recogniser as an ONNX graph, written node by node from its weights.

The graph computes what `hearloop.model.Network` computes, in the form that ONNX Runtime is
fastest at: convolutions as products of unfolded frames, depthwise ones and layer norms as
elementwise operations. That takes two thirds of the time of the graph that torch traces.

In the int8 graph the LSTMs are unrolled over the four outputs of a chunk, with weights in int8 per
channel. Inputs are quantised row by row and hidden states with a fixed scale, so that a stream's
result does not depend on the other streams of its batch, as it does with ONNX Runtime's dynamic
quantisation (one scale for a whole batch).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from hearloop.architecture import DOWNSAMPLING, STATES, Architecture
from hearloop.bundle import Precision
from hearloop.features import MEL_BINS
from hearloop.graph import INT8_FRAMES

__all__ = ["Weights", "write"]

Weights = Mapping[str, npt.NDArray[np.float32]]
"""The network's weights by the names of its state dictionary."""

_OPSET: Final = 17
_IR: Final = 9
"""Version of the file format: what runtimes of the last years read."""
_EPSILON: Final = 1e-5
"""torch's, in layer norms."""
_LARGEST: Final = 127.0
"""Of int8, symmetric."""
_MIDDLE: Final = 128
"""Zero of the unsigned activations: ONNX Runtime's kernels want them unsigned."""
_TINY: Final = 1e-9
"""Keeps rows of zeros from being divided by zero."""


class Draft:
    """Nodes and constants, in the order in which they are added."""

    def __init__(self, weights: Weights, architecture: Architecture) -> None:
        self.weights = weights
        self.architecture = architecture
        self.nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def add(self, operation: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; the name of its output, or their names."""
        names = [f"{operation}_{len(self.nodes)}_{index}" for index in range(outputs)]
        node = helper.make_node(operation, list(inputs), names, **attributes)
        self.nodes.append(node)
        return names[0] if outputs == 1 else names

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Name of a constant; equal ones are stored once."""
        array = np.array(value, dtype, order="C")
        name = f"c{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def integers(self, *values: int) -> str:
        """Name of a vector of int64: axes, shapes, places."""
        return self.constant(values, np.int64)

    def name(self, value: str, name: str) -> None:
        """Give an output of the graph its name."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))

    def model(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> onnx.ModelProto:
        """The checked model."""
        graph = helper.make_graph(
            self.nodes, "hearloop", inputs, outputs, list(self._constants.values())
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR)


def write(path: Path, weights: Weights, architecture: Architecture, precision: Precision) -> None:
    """Write the streaming graph: features and states in, log-probabilities and states out.

    Streams (N) are free. Frames (T) are free in fp32, and `INT8_FRAMES` in int8.
    """
    frames = "T" if precision == "fp32" else INT8_FRAMES
    outputs = "T_out" if precision == "fp32" else INT8_FRAMES // DOWNSAMPLING
    graph = Draft(weights, architecture)
    log_probs, states = network(graph, "x", dict(zip(STATES, STATES, strict=True)), precision)
    graph.name(log_probs, "log_probs")
    for name in STATES:
        graph.name(states[name], f"next_{name}")
    shapes: dict[str, list[int | str]] = {
        name: ["N", *shape[1:]] for name, shape in architecture.state_shapes(1).items()
    }
    model = graph.model(
        [_value("x", ["N", frames, MEL_BINS]), *(_value(n, s) for n, s in shapes.items())],
        [
            _value("log_probs", ["N", outputs, architecture.vocabulary]),
            *(_value(f"next_{name}", shape) for name, shape in shapes.items()),
        ],
    )
    onnx.save(model, path)


def _value(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def network(
    graph: Draft, x: str, states: Mapping[str, str], precision: Precision
) -> tuple[str, dict[str, str]]:
    """Add the network: names of its log-probabilities (N, T / 4, V) and of its next states."""
    after: dict[str, str] = {}
    weights, architecture = graph.weights, graph.architecture
    x = graph.add("Sub", x, graph.constant(weights["mean"]))
    x = graph.add("Mul", x, graph.constant(1.0 / weights["deviation"]))
    for name in ("front", "middle"):
        x, after[name] = _strided(graph, name, x, states[name])
    x, after["ahead"] = _look_ahead(graph, x, states["ahead"])
    hidden, cell = [], []
    for layer in range(architecture.layers):
        before = [
            graph.add("Gather", states[name], graph.constant(layer, np.int64), axis=1)
            for name in ("hidden", "cell")
        ]
        recurrent = _lstm if precision == "fp32" else _quantised_lstm
        y, h, c = recurrent(graph, layer, x, *before)
        x = _layer_norm(graph, f"norms.{layer}", graph.add("Add", x, y))
        hidden.append(graph.add("Unsqueeze", h, graph.integers(1)))
        cell.append(graph.add("Unsqueeze", c, graph.integers(1)))
    after["hidden"] = graph.add("Concat", *hidden, axis=1)
    after["cell"] = graph.add("Concat", *cell, axis=1)
    logits = _affine(graph, x, weights["output.weight"].T, weights["output.bias"])
    return graph.add("LogSoftmax", logits, axis=-1), after


def _affine(
    graph: Draft, x: str, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]
) -> str:
    product = graph.add("MatMul", x, graph.constant(weight))
    return graph.add("Add", product, graph.constant(bias))


def _slice(graph: Draft, x: str, start: int, end: int, step: int = 1) -> str:
    """Frames (axis 1) from `start` to before `end`."""
    bounds = (graph.integers(start), graph.integers(end), graph.integers(1), graph.integers(step))
    return graph.add("Slice", x, *bounds)


_TO_THE_END: Final = 2**31 - 1


def _strided(graph: Draft, name: str, x: str, before: str) -> tuple[str, str]:
    """Convolution of three frames, two frames on each time, and ReLU.

    (N, T, C) to (N, T / 2, C'); the state (N, C, 1) is the frame before.
    """
    weight = graph.weights[f"{name}.weight"]  # (C', C, 3)
    channels = weight.shape[1]
    before = graph.add("Reshape", before, graph.integers(-1, 1, channels))
    x = graph.add("Concat", before, x, axis=1)
    pairs = graph.add("Reshape", _slice(graph, x, 0, -1), graph.integers(0, -1, 2 * channels))
    third = _slice(graph, x, 2, _TO_THE_END, 2)
    unfolded = graph.add("Concat", pairs, third, axis=2)
    matrix = weight.transpose(2, 1, 0).reshape(3 * channels, -1)
    y = graph.add("Relu", _affine(graph, unfolded, matrix, graph.weights[f"{name}.bias"]))
    last = _slice(graph, x, -1, _TO_THE_END)
    return y, graph.add("Reshape", last, graph.integers(-1, channels, 1))


def _look_ahead(graph: Draft, x: str, before: str) -> tuple[str, str]:
    """Depthwise convolution over this frame and those before; the state is (N, C, frames)."""
    weight = graph.weights["ahead.weight"]  # (C, 1, k)
    taps = weight.shape[2]
    x = graph.add("Concat", graph.add("Transpose", before, perm=[0, 2, 1]), x, axis=1)
    terms = []
    for tap in range(taps):
        end = tap - taps + 1
        shifted = _slice(graph, x, tap, end or _TO_THE_END)
        terms.append(graph.add("Mul", shifted, graph.constant(weight[:, 0, tap])))
    total = graph.constant(graph.weights["ahead.bias"])
    for term in terms:
        total = graph.add("Add", term, total)
    last = _slice(graph, x, 1 - taps, _TO_THE_END)
    return total, graph.add("Transpose", last, perm=[0, 2, 1])


def _layer_norm(graph: Draft, name: str, x: str) -> str:
    """Written out, in a form that ONNX Runtime does not fuse: its own kernel takes four times as
    long."""
    size = graph.architecture.hidden
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, axes=[-1]))
    squares = graph.add("ReduceSumSquare", centred, axes=[-1])
    shifted = graph.add("Add", squares, graph.constant(_EPSILON * size))
    scale = graph.add("Div", graph.constant(np.sqrt(size)), graph.add("Sqrt", shifted))
    normed = graph.add("Mul", centred, scale)
    weighted = graph.add("Mul", normed, graph.constant(graph.weights[f"{name}.weight"]))
    return graph.add("Add", weighted, graph.constant(graph.weights[f"{name}.bias"]))


def _gates(graph: Draft, layer: int, order: str) -> tuple[npt.NDArray[np.float32], ...]:
    """Input and recurrent weights (hidden, 4 hidden) and the bias, gates in the given order."""
    places = ["ifgo".index(gate) for gate in order]  # torch's order

    def ordered(name: str) -> npt.NDArray[np.float32]:
        parts = np.split(graph.weights[f"recurrent.{layer}.{name}_l0"], 4)
        return np.concatenate([parts[place] for place in places])

    bias = ordered("bias_ih") + ordered("bias_hh")
    return ordered("weight_ih").T, ordered("weight_hh").T, bias


def _lstm(graph: Draft, layer: int, x: str, h: str, c: str) -> tuple[str, str, str]:
    """ONNX's own LSTM: (N, T, C) to the same shape, and the states (N, C)."""
    inputs, recurrent, bias = _gates(graph, layer, "iofg")
    y, h, c = graph.add(
        "LSTM",
        graph.add("Transpose", x, perm=[1, 0, 2]),
        graph.constant(inputs.T[None]),
        graph.constant(recurrent.T[None]),
        graph.constant(np.concatenate([bias, np.zeros_like(bias)])[None]),
        "",
        graph.add("Unsqueeze", h, graph.integers(0)),
        graph.add("Unsqueeze", c, graph.integers(0)),
        outputs=3,
        hidden_size=graph.architecture.hidden,
    )
    y = graph.add("Squeeze", y, graph.integers(1))
    squeezed = [graph.add("Squeeze", state, graph.integers(0)) for state in (h, c)]
    return graph.add("Transpose", y, perm=[1, 0, 2]), *squeezed


def _quantised(weight: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], Any]:
    """A matrix (in, out) in int8 and the scale of each output channel."""
    scale = np.maximum(np.abs(weight).max(axis=0) / _LARGEST, _TINY)
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)


def _product(graph: Draft, x: str, scale: str, weight: npt.NDArray[np.float32]) -> str:
    """`x` in units of `scale`, quantised, times a quantised matrix; in the same units."""
    zero = graph.constant(_MIDDLE, np.uint8)
    matrix, channels = _quantised(weight)
    units = graph.add("QuantizeLinear", x, scale, zero)
    return graph.add(
        "MatMulIntegerToFloat",
        units,
        graph.constant(matrix, np.int8),
        scale,
        graph.constant(channels),
        zero,
        domain="com.microsoft",
    )


def _quantised_lstm(graph: Draft, layer: int, x: str, h: str, c: str) -> tuple[str, str, str]:
    """As `_lstm`, for the outputs of one chunk, in int8."""
    inputs, recurrent, bias = _gates(graph, layer, "ifog")
    size, steps = graph.architecture.hidden, INT8_FRAMES // DOWNSAMPLING
    largest = graph.add("ReduceMax", graph.add("Abs", x), axes=[-1])
    row = graph.add("Max", largest, graph.constant(_TINY))
    scaled = graph.add("Mul", graph.add("Div", x, row), graph.constant(_LARGEST))
    one = graph.constant(1.0)
    product = _product(graph, scaled, one, inputs)
    unit = graph.add("Mul", row, graph.constant(1.0 / _LARGEST))
    given = graph.add("Add", graph.add("Mul", product, unit), graph.constant(bias))
    hidden_scale = graph.constant(1.0 / _LARGEST)
    found = []
    for step in range(steps):
        now = graph.add("Gather", given, graph.constant(step, np.int64), axis=1)
        gates = graph.add("Add", now, _product(graph, h, hidden_scale, recurrent))
        sizes = graph.integers(3 * size, size)
        opening, candidate = graph.add("Split", gates, sizes, outputs=2, axis=1)
        opening = graph.add("Sigmoid", opening)
        i, f, o = graph.add("Split", opening, graph.integers(size, size, size), outputs=3, axis=1)
        kept = graph.add("Mul", f, c)
        c = graph.add("Add", kept, graph.add("Mul", i, graph.add("Tanh", candidate)))
        h = graph.add("Mul", o, graph.add("Tanh", c))
        found.append(graph.add("Unsqueeze", h, graph.integers(1)))
    return graph.add("Concat", *found, axis=1), h, c
