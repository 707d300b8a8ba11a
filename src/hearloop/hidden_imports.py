"""Keep libraries from loading other large ones that we do not use through them.

>>> with hidden("torch"):
...     import feast  # finds no torch, and does without
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["hidden", "load_mlflow"]


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Let imports in the block find `module` not installed, unless it is loaded already.

    None in `sys.modules` is the import system's own way to say so.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def load_mlflow() -> None:
    """Load MLflow's client without the plugin that Feast 0.67 installs into it.

    The plugin is loaded on the first request of every process that talks to MLflow. It takes all
    of Feast and torch with it, 6 to 8 s and 600 MB, and would send a pod's service account token
    to the MLflow server.
    """
    with hidden("feast"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Failure attempting to register request header")
        import mlflow.tracking.request_header.registry  # noqa: F401
