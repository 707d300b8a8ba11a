"""Our recogniser for sherpa-onnx, which runs on phones, in browsers and on a Raspberry Pi.

    python -m hearloop.sherpa BUNDLE DIRECTORY

writes model.onnx and tokens.txt for `sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc`. The graph
keeps to the contract of icefall's streaming zipformer2 CTC models, whose states it borrows: our
convolutions are stacks of one layer, our LSTMs layers of another one, with the hidden state where a
zipformer has the cache of its first convolution and the cell where it has that of its second. The
states of attention have the smallest size and pass through unused. Our Conformer's layers are those
of one stack: keys, the first of two caches of values, the first of two of convolutions.

Word times of `rnn_ctc` are later than ours by the look-ahead (160 ms), and the last word needs half
a second of silence after it: `input_finished` alone does not bring it out.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import load_file

from hearloop.architecture import DOWNSAMPLING, Architecture, ConformerArchitecture
from hearloop.bundle import Bundle, Precision, verify
from hearloop.errors import ConfigurationError
from hearloop.features import MEL_BINS
from hearloop.graph import INT8_FRAMES
from hearloop.onnx_graph import Draft, network

__all__ = ["write_sherpa"]

_FRAMES: Final = INT8_FRAMES
"""Feature frames of a step, fixed in this contract."""
_EMBED: Final = (128, 3, 19)
"""Shape of a state of zipformer2's front end, which we do not have."""
_SURE: Final = 30.0
"""Nats by which the blank leads where an output is about nothing."""


@dataclass(frozen=True, kw_only=True)
class _Stack:
    """What sherpa-onnx takes for a stack of encoder layers."""

    name: str
    width: int
    kept: int
    """Frames that the cache of a convolution holds: half a kernel."""
    layers: int = 1
    left: int = 1
    """Frames that the caches of attention hold."""
    heads: int = 1
    head: int = 1
    """Width of a head of attention."""


def write_sherpa(bundle: Bundle, directory: Path, precision: Precision = "int8") -> None:
    """Write model.onnx and tokens.txt of a verified bundle into `directory`.

    Raises ConfigurationError for a family that the contract cannot carry.
    """
    directory.mkdir(parents=True, exist_ok=True)
    match bundle.architecture:
        case Architecture() as architecture:
            stacks = _stacks(architecture)
            weights = load_file(bundle.directory / "model.safetensors")
            draft = Draft(weights, architecture)
            model = draft.model(*_contract(draft, stacks, precision))
        case ConformerArchitecture() as sizes:
            stacks = _conformer_stacks(sizes)
            model = _traced(bundle, stacks, precision)
        case other:
            raise ConfigurationError(
                f"sherpa-onnx hears streams, which {bundle.directory} ({other.kind}) cannot; "
                "serve it with hearloop."
            )
    helper.set_model_props(model, _metadata(stacks, bundle.architecture.chunk_frames))
    onnx.save(model, directory / "model.onnx")
    tokens = (bundle.directory / "tokens.txt").read_bytes()
    (directory / "tokens.txt").write_bytes(tokens)


def _stacks(architecture: Architecture) -> list[_Stack]:
    hidden = architecture.hidden
    return [
        _Stack(name="front", width=MEL_BINS, kept=1),
        _Stack(name="middle", width=architecture.front_channels, kept=1),
        _Stack(name="ahead", width=hidden, kept=architecture.lookahead),
        _Stack(name="lstm", width=hidden, kept=1, layers=architecture.layers),
    ]


def _conformer_stacks(sizes: ConformerArchitecture) -> list[_Stack]:
    blocks = _Stack(
        name="block",
        width=sizes.hidden,
        kept=sizes.kernel - 1,
        layers=sizes.layers,
        left=sizes.left,
        heads=sizes.heads,
        head=sizes.hidden // sizes.heads,
    )
    front = _Stack(name="front", width=MEL_BINS, kept=1)
    return [front, _Stack(name="middle", width=sizes.hidden, kept=1), blocks]


def _traced(bundle: Bundle, stacks: Sequence[_Stack], precision: Precision) -> onnx.ModelProto:
    """A Conformer between the inputs and outputs that sherpa-onnx binds by their places."""
    import torch

    from hearloop.export import load_network
    from hearloop.traced_graph import ZipformerStates, quantise, trace

    streams = 2  # one would be taken for fixed
    shapes: dict[str, list[int | str]] = {"x": ["N", bundle.architecture.chunk_frames, MEL_BINS]}
    for stack in stacks:
        for layer in range(stack.layers):
            shapes |= _states(stack, layer)
    shapes["embed"] = ["N", *_EMBED]
    examples = [
        torch.zeros([streams if size == "N" else int(size) for size in shape])
        for shape in shapes.values()
    ]
    named = [*shapes, "processed_lens"]
    model = trace(
        ZipformerStates(load_network(bundle)),
        (*examples, torch.zeros(streams, dtype=torch.long)),
        inputs=named,
        outputs=["log_probs", *(f"new_{name}" for name in named[1:])],
        free=[*({shape.index("N"): "N"} for shape in shapes.values()), {0: "N"}],
    )
    return model if precision == "fp32" else quantise(model)


def _metadata(stacks: Sequence[_Stack], frames: int) -> dict[str, str]:
    def each(values: Iterator[int]) -> str:
        return ",".join(str(value) for value in values)

    return {
        "model_type": "zipformer2",
        "version": "1",
        "comment": "hearloop",
        "encoder_dims": each(stack.width for stack in stacks),
        "num_encoder_layers": each(stack.layers for stack in stacks),
        "cnn_module_kernels": each(2 * stack.kept for stack in stacks),
        "query_head_dims": each(stack.head for stack in stacks),
        "value_head_dims": each(stack.head for stack in stacks),
        "num_heads": each(stack.heads for stack in stacks),
        "left_context_len": each(stack.left for stack in stacks),
        "T": str(frames),
        "decode_chunk_len": str(frames),
    }


def _contract(
    draft: Draft, stacks: Sequence[_Stack], precision: Precision
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Add the network between the inputs and outputs that sherpa-onnx binds by their places."""
    names: dict[str, Sequence[int | str]] = {}
    for stack in stacks:
        for layer in range(stack.layers):
            names |= _states(stack, layer)
    floats: dict[str, Sequence[int | str]] = {**names, "embed": ["N", *_EMBED]}
    after = {name: name for name in floats}
    log_probs = _recognise(draft, stacks, after, precision)
    draft.name(_silenced(draft, log_probs), "log_probs")
    for name, value in after.items():
        draft.name(value, f"new_{name}")
    frames = draft.constant([_FRAMES], np.int64)
    draft.name(draft.add("Add", "processed_lens", frames), "new_processed_lens")
    outputs = _FRAMES // DOWNSAMPLING
    lengths = ("processed_lens", TensorProto.INT64, ["N"])
    given = [_value("x", ["N", _FRAMES, MEL_BINS]), *(_value(n, s) for n, s in floats.items())]
    answered = [
        _value("log_probs", ["N", outputs, draft.architecture.vocabulary]),
        *(_value(f"new_{name}", shape) for name, shape in floats.items()),
    ]
    return (
        [*given, helper.make_tensor_value_info(*lengths)],
        [*answered, helper.make_tensor_value_info(f"new_{lengths[0]}", *lengths[1:])],
    )


def _value(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _states(stack: _Stack, layer: int) -> dict[str, list[int | str]]:
    """Names and shapes of the states of one layer, in the contract's order."""
    prefix, attended = f"{stack.name}{layer}", stack.heads * stack.head
    return {
        f"{prefix}_key": [stack.left, "N", attended],
        f"{prefix}_nonlin": [1, "N", stack.left, 3 * stack.width // 4],
        f"{prefix}_val1": [stack.left, "N", attended],
        f"{prefix}_val2": [stack.left, "N", attended],
        f"{prefix}_conv1": ["N", stack.width, stack.kept],
        f"{prefix}_conv2": ["N", stack.width, stack.kept],
    }


def _recognise(
    draft: Draft, stacks: Sequence[_Stack], after: dict[str, str], precision: Precision
) -> str:
    """Add the network; `after` learns the names of the states that it changes."""
    *convolutions, lstm = stacks
    caches = [(f"lstm{layer}_conv1", f"lstm{layer}_conv2") for layer in range(lstm.layers)]
    states = {stack.name: f"{stack.name}0_conv1" for stack in convolutions}
    for name, parts in zip(("hidden", "cell"), zip(*caches, strict=True), strict=True):
        rows = [draft.add("Transpose", part, perm=[0, 2, 1]) for part in parts]
        states[name] = draft.add("Concat", *rows, axis=1)
    log_probs, changed = network(draft, "x", states, precision)
    for stack in convolutions:
        after[f"{stack.name}0_conv1"] = changed[stack.name]
    for place, name in enumerate(("hidden", "cell")):
        columns = draft.add("Transpose", changed[name], perm=[0, 2, 1])
        parts = draft.add("Split", columns, outputs=lstm.layers, axis=2)
        for layer, part in enumerate(parts if lstm.layers > 1 else [parts]):
            after[caches[layer][place]] = part
    return log_probs


def _silenced(draft: Draft, log_probs: str) -> str:
    """Blanks for the first outputs, which the look-ahead leaves about nothing."""
    architecture = draft.architecture
    nothing = draft.constant([architecture.lookahead * DOWNSAMPLING], np.int64)
    early = draft.add("Less", "processed_lens", nothing)
    early = draft.add("Unsqueeze", early, draft.integers(1, 2))
    blank = np.full(architecture.vocabulary, -_SURE, np.float32)
    blank[0] = 0.0
    return draft.add("Where", early, draft.constant(blank), log_probs)


if __name__ == "__main__":
    write_sherpa(verify(Path(sys.argv[1])), Path(sys.argv[2]))
