"""The exported network in ONNX Runtime."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from hearloop.architecture import STATES, Architecture
from hearloop.features import Matrix

__all__ = ["Graph", "States"]

States = tuple[npt.NDArray[np.float32], ...]
"""One array for each name in `architecture.STATES`; streams along the first axis."""


class Graph:
    """The exported network in ONNX Runtime; safe to use from several threads at once."""

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

    def initial_states(self, batch: int) -> States:
        """States of `batch` new streams."""
        shapes = self._architecture.state_shapes(batch)
        return tuple(np.zeros(shapes[name], np.float32) for name in STATES)

    def run(self, x: Matrix, states: States) -> tuple[npt.NDArray[np.float32], States]:
        """(N, T, 80) features, T a multiple of 4, to (N, T / 4, V) log-probabilities."""
        inputs = dict(zip(("x", *STATES), (x, *states), strict=True))
        log_probs, *after = self._session.run(None, inputs)
        return log_probs, tuple(after)
