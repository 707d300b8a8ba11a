"""The exported network in ONNX Runtime."""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from hearloop.architecture import DOWNSAMPLING, Shape
from hearloop.features import Matrix

__all__ = ["INT8_FRAMES", "Graph", "States", "session"]

INT8_FRAMES: Final = 4 * DOWNSAMPLING
"""Feature frames (160 ms) that the int8 graph takes at a time, neither more nor fewer."""

States = tuple[npt.NDArray[np.float32], ...]
"""One array for each of `Shape.state_shapes`; streams along the first axis."""


def session(path: Path) -> onnxruntime.InferenceSession:
    """A verified graph, loaded."""
    options = onnxruntime.SessionOptions()
    # One thread a call and no spinning: many calls share the cores, and a recurrence leaves
    # nothing for a second thread to do.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Graph:
    """The exported network in ONNX Runtime; safe to use from several threads at once."""

    frames: int | None = None
    """Feature frames that `run` takes; None where it takes any multiple of 4."""

    def __init__(self, path: Path, architecture: Shape) -> None:
        """Load the graph at `path`, whose bytes were verified before."""
        self._session = session(path)
        self._architecture = architecture
        declared = self._session.get_inputs()[0].shape[1]
        if isinstance(declared, int):
            self.frames = declared

    def initial_states(self, batch: int) -> States:
        """States of `batch` new streams."""
        shapes = self._architecture.state_shapes(batch).values()
        return tuple(np.zeros(shape, np.float32) for shape in shapes)

    def run(self, x: Matrix, states: States) -> tuple[npt.NDArray[np.float32], States]:
        """(N, T, bins) features, T as `frames` says, to (N, T / 4, V) log-probabilities."""
        return self.step(x, states)[:2]

    def step(
        self, x: Matrix, states: States
    ) -> tuple[npt.NDArray[np.float32], States, npt.NDArray[np.float32] | None]:
        """As `run`, and what an attention decoder hears, (N, T / 4, D), if there is one."""
        log_probs, *rest = self._answer(x, states)
        encoded = rest[len(states)] if len(rest) > len(states) else None
        return log_probs, tuple(rest[: len(states)]), encoded

    def _answer(self, x: Matrix, states: States) -> list[npt.NDArray[np.float32]]:
        """Log-probabilities, states, and what an attention decoder wants if there is one."""
        names = self._architecture.state_shapes(1)
        inputs = dict(zip(("x", *names), (x, *states), strict=True))
        return self._session.run(None, inputs)

    def run_whole(self, x: Matrix) -> npt.NDArray[np.float32]:
        """Log-probabilities (N, T / 4, V) of N whole recordings, T any multiple of 4."""
        return self._run_whole(x)[0]

    def encode_whole(self, x: Matrix) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """As `run_whole`, and what an attention decoder hears: (N, T / 4, D)."""
        log_probs, encoded = self._run_whole(x)
        return log_probs, encoded

    def _run_whole(self, x: Matrix) -> list[npt.NDArray[np.float32]]:
        states = self.initial_states(len(x))
        frames = self.frames or x.shape[1]
        outputs = x.shape[1] // DOWNSAMPLING
        # Silence after the end: it changes nothing before, or what a chunk heard in training.
        missing = ((0, 0), (0, -x.shape[1] % frames), (0, 0))
        x = np.pad(x, missing, constant_values=self._architecture.silence)
        answers = []
        for at in range(0, x.shape[1], frames):
            log_probs, *rest = self._answer(x[:, at : at + frames], states)
            states = tuple(rest[: len(states)])
            answers.append((log_probs, *rest[len(states) :]))
        return [np.concatenate(each, axis=1)[:, :outputs] for each in zip(*answers, strict=True)]
