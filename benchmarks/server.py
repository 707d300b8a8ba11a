"""A model server of its own beside services of its own, to be measured."""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from hearloop import composition
from hearloop.bundle import MANIFEST
from hearloop.config import Settings
from hearloop.lineage import DatasetUse
from hearloop.rollout import Traffic
from hearloop.stack import Ports, Stack

__all__ = ["Served", "serving"]

READY_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Served:
    """A server with two versions of one model, the first of them in service."""

    url: str
    grpc: str
    """Host and port."""
    process: psutil.Process
    settings: Settings
    versions: tuple[str, str]


@contextmanager
def serving(bundle: Path, **environment: str) -> Iterator[Served]:
    """Start object storage, broker, registry and server on free ports; stop them afterwards."""
    with tempfile.TemporaryDirectory() as folder, _stores(Path(folder)) as stack:
        settings = stack.settings.model_copy(update={"cache": Path(folder, "cache")})
        registry = composition.registry(settings)
        use = DatasetUse(
            context="train", snapshot="a" * 64, uri="s3://x/y", utterances=1, seconds=1.0
        )
        first, second = (
            registry.register(one, run_id=registry.run(uuid.uuid4().hex), datasets=[use])
            for one in (bundle, _twin(bundle, Path(folder, "twin")))
        )
        composition.traffic_store(settings).write(Traffic(stable=first), {})
        variables = {**os.environ, **settings.to_environment(), **environment}
        grpc_port = Ports.free().serving
        command = [sys.executable, "-m", "serving", f"--grpc_port={grpc_port}"]
        log = Path(folder, "serving.log")
        with log.open("wb") as written:
            process = psutil.Popen(command, env=variables, stdout=written, stderr=written)
        try:
            _wait(f"{settings.serving_url}/v2/models/{settings.model_name}/ready", process, log)
            yield Served(
                url=settings.serving_url,
                grpc=f"127.0.0.1:{grpc_port}",
                process=process,
                settings=settings,
                versions=(first, second),
            )
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _twin(bundle: Path, place: Path) -> Path:
    """The same model under another digest: its manifest is written in another way."""
    shutil.copytree(bundle, place)
    manifest = place / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text())))
    return place


@contextmanager
def _stores(folder: Path) -> Iterator[Stack]:
    stack = Stack(folder / "stack", ports=Ports.free())
    try:
        stack.up("objects", "events", "tracking")
        yield stack
    finally:
        stack.down()


def _wait(url: str, process: psutil.Popen, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=1).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{url} did not become ready; its log ends: {log.read_text()[-2_000:]}")
