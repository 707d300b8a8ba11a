"""Checkpoints that survive a kill, a full disk and a flipped bit.

A checkpoint is written beside its place, flushed to the disk and renamed; its SHA-256 is part of
its name. So what bears the name of a checkpoint is whole, or is recognised as damaged.
"""

import ctypes
import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hearloop.training.loop import Trainer
from hearloop.training.request import CHECKPOINTS_KEPT

__all__ = ["Checkpoints", "restore"]

log = logging.getLogger(__name__)

_SUFFIX: Final = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Network, optimiser and averages after a number of steps."""

    step: int
    seconds: float
    """Wall time that the training had taken until then."""
    tensors: dict[str, Tensor]


class Checkpoints:
    """The checkpoints of one training in a folder."""

    def __init__(self, folder: Path, training: str) -> None:
        """`training`: digest of the request; checkpoints of any other are not loaded."""
        self.folder = folder
        self._training = training

    def save(self, trainer: Trainer, seconds: float) -> Path:
        """Write a checkpoint. Raises OSError when it cannot; the ones before are then intact."""
        step = trainer.steps_done
        metadata = {"training": self._training, "step": str(step), "seconds": repr(seconds)}
        body = save(_tensors(trainer), metadata)
        path = self.folder / f"{step:08d}-{hashlib.sha256(body).hexdigest()}{_SUFFIX}"
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".unfinished")
        try:
            with temporary.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _flush_folder(self.folder)
        for old in self.paths()[CHECKPOINTS_KEPT:]:
            old.unlink()
        del body
        _give_memory_back()
        return path

    def paths(self) -> list[Path]:
        """Checkpoint files, the newest first."""
        return sorted(self.folder.glob(f"*{_SUFFIX}"), reverse=True)

    def newest(self) -> Checkpoint | None:
        """The newest undamaged checkpoint of this training, None when there is none."""
        for path in self.paths():
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found != path.stem.partition("-")[2]:
                log.warning("The checkpoint %s is damaged; the one before it is tried.", path)
                continue
            checkpoint = self._read(path)
            if checkpoint is not None:
                return checkpoint
        return None

    def _read(self, path: Path) -> Checkpoint | None:
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            log.warning("The checkpoint %s cannot be read (%s).", path, error)
            return None
        if metadata.get("training") != self._training:
            log.info("The checkpoint %s belongs to another training; it is left out.", path)
            return None
        return Checkpoint(
            step=int(metadata["step"]), seconds=float(metadata["seconds"]), tensors=tensors
        )


def _give_memory_back() -> None:
    """Return freed memory to the system: batches of ever other sizes leave it in pieces, of which
    glibc alone lets go too late."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _tensors(trainer: Trainer) -> dict[str, Tensor]:
    tensors = {f"network.{name}": t for name, t in trainer.network.state_dict().items()}
    for index, state in trainer.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": t for name, t in state.items()}
    tensors |= {f"attempts.{name}": t for name, t in trainer.attempts.tensors().items()}
    return {name: t.detach().contiguous() for name, t in tensors.items()}


def restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Bring a trainer to the state that a checkpoint holds."""
    network: dict[str, Tensor] = {}
    attempts: dict[str, Tensor] = {}
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in checkpoint.tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "network":
            network[rest] = tensor
        elif kind == "attempts":
            attempts[rest] = tensor
        else:
            index, _, part = rest.partition(".")
            states.setdefault(int(index), {})[part] = tensor
    with torch.no_grad():
        trainer.network.load_state_dict(network)
    groups = trainer.optimiser.state_dict()["param_groups"]
    trainer.optimiser.load_state_dict({"state": states, "param_groups": groups})
    trainer.attempts.restore(attempts)
    trainer.steps_done = checkpoint.step
