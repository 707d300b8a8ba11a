"""Keep libraries from loading other large ones that we do not use through them.

>>> with hidden("torch"):
...     import feast  # finds no torch, and does without
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["hidden", "load_feast", "load_mlflow"]


_T = TypeVar("_T")


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Let imports in the block find `module` not installed, unless it is loaded already.

    Every thread finds it so: to be used where no other thread may want it, as a process starts.
    None in `sys.modules` is the import system's own way to say so.

    >>> with hidden("mailbox"):
    ...     import mailbox
    Traceback (most recent call last):
    ModuleNotFoundError: import of mailbox halted; None in sys.modules
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def load_feast() -> None:
    """Load Feast 0.67 without torch and without instrumenting its classes.

    It takes torch where it finds it, for `to_tensor` alone: 2 to 5 s. And typeguard rewrites its
    classes to check the types of arguments as they are called: 3 s. `python -O` leaves that out
    as well, along with every assertion, which we want.
    """
    import typeguard

    checked = typeguard.typechecked
    typeguard.typechecked = _unchanged  # type: ignore[assignment]
    try:
        with hidden("torch"):
            import feast  # noqa: F401
    finally:
        typeguard.typechecked = checked


def _unchanged(target: _T) -> _T:
    return target


def load_mlflow() -> None:
    """Load MLflow's client without the plugin that Feast 0.67 installs into it.

    The plugin is loaded on the first request of every process that talks to MLflow. It takes all
    of Feast and torch with it, 6 to 8 s and 600 MB, and would send a pod's service account token
    to the MLflow server.
    """
    with hidden("feast"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Failure attempting to register request header")
        import mlflow.tracking.request_header.registry  # noqa: F401
