"""The exported network in ONNX Runtime."""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from hearloop.architecture import DOWNSAMPLING, STATES, Architecture
from hearloop.features import Matrix

__all__ = ["INT8_FRAMES", "Graph", "States"]

INT8_FRAMES: Final = 4 * DOWNSAMPLING
"""Feature frames (160 ms) that the int8 graph takes at a time, neither more nor fewer."""

States = tuple[npt.NDArray[np.float32], ...]
"""One array for each name in `architecture.STATES`; streams along the first axis."""


class Graph:
    """The exported network in ONNX Runtime; safe to use from several threads at once."""

    frames: int | None = None
    """Feature frames that `run` takes; None where it takes any multiple of 4."""

    def __init__(self, path: Path, architecture: Architecture) -> None:
        """Load the graph at `path`, whose bytes were verified before."""
        options = onnxruntime.SessionOptions()
        # One thread a call and no spinning: many calls share the cores, and the recurrence
        # leaves nothing for a second thread to do.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self._architecture = architecture
        declared = self._session.get_inputs()[0].shape[1]
        if isinstance(declared, int):
            self.frames = declared

    def initial_states(self, batch: int) -> States:
        """States of `batch` new streams."""
        shapes = self._architecture.state_shapes(batch)
        return tuple(np.zeros(shapes[name], np.float32) for name in STATES)

    def run(self, x: Matrix, states: States) -> tuple[npt.NDArray[np.float32], States]:
        """(N, T, 80) features, T as `frames` says, to (N, T / 4, V) log-probabilities."""
        inputs = dict(zip(("x", *STATES), (x, *states), strict=True))
        log_probs, *after = self._session.run(None, inputs)
        return log_probs, tuple(after)

    def run_whole(self, x: Matrix) -> npt.NDArray[np.float32]:
        """Log-probabilities (N, T / 4, V) of N whole recordings, T any multiple of 4."""
        states = self.initial_states(len(x))
        if self.frames is None:
            return self.run(x, states)[0]
        outputs = x.shape[1] // DOWNSAMPLING
        missing = -x.shape[1] % self.frames
        x = np.pad(x, ((0, 0), (0, missing), (0, 0)))  # after the end: it changes nothing before
        answers = []
        for at in range(0, x.shape[1], self.frames):
            answer, states = self.run(x[:, at : at + self.frames], states)
            answers.append(answer)
        return np.concatenate(answers, axis=1)[:, :outputs]
