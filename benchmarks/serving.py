"""How fast the model server answers: `python -m benchmarks.serving [URL]`.

Without a URL it starts a server of its own beside object storage and a broker of its own, with a
recogniser of the demo's size (random weights: the work is the same). Eight callers send 3 s
utterances as FLAC files, one after the other, each on a connection of its own; every answer is
logged meanwhile.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil

from hearloop import composition
from hearloop.audio import encode_flac
from hearloop.config import Settings
from hearloop.rollout import Traffic
from hearloop.stack import Ports, Stack

CALLERS = 8
SECONDS = 20.0
"""How long they call, after two utterances each to warm up."""
UTTERANCE_SECONDS = 3.0
ROUTE = "/openai/v1/audio/transcriptions"


def speech() -> bytes:
    """Noise that swells at the rate of syllables, as a FLAC file."""
    time_s = np.arange(int(UTTERANCE_SECONDS * 16_000)) / 16_000
    noise = np.random.default_rng(0).normal(0, 0.1, len(time_s))
    return encode_flac((noise * np.sin(2 * np.pi * 2 * time_s) ** 2).astype(np.float32))


def call(url: str, caller: int, until: float) -> list[float]:
    """Seconds of each answer to one caller."""
    body, took = speech(), []
    with httpx.Client(base_url=url, headers={"x-hearloop-call": f"caller-{caller}"}) as client:
        while len(took) < 2 or time.monotonic() < until:
            began = time.monotonic()
            client.post(ROUTE, files={"file": body}, timeout=60).raise_for_status()
            took.append(time.monotonic() - began)
    return took[2:]


def measure(url: str, process: psutil.Process | None = None) -> None:
    """Print the figures of the server at `url`, and of its `process`."""
    used = cpu_seconds(process)
    began = time.monotonic()
    with ThreadPoolExecutor(CALLERS) as pool:
        answered = [pool.submit(call, url, n, began + SECONDS) for n in range(CALLERS)]
        took = np.concatenate([one.result() for one in answered]) * 1000
    rate = len(took) / (time.monotonic() - began)
    p50, p95, p99 = np.percentile(took, [50, 95, 99])
    print(f"{CALLERS} callers, {UTTERANCE_SECONDS:g} s utterances, {len(took)} answers")
    print(f"{rate:.1f} requests/s, {rate * UTTERANCE_SECONDS:.0f} s of audio a second")
    print(f"latency: p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms")
    if process is not None:
        cpu = (cpu_seconds(process) - used) / (len(took) + 2 * CALLERS)
        print(f"server: {cpu * 1000:.0f} ms CPU a request, {process.memory_info().rss >> 20} MiB")


def cpu_seconds(process: psutil.Process | None) -> float:
    """CPU time of a process so far."""
    return sum(process.cpu_times()[:2]) if process is not None else 0.0


@contextmanager
def server() -> Iterator[tuple[str, psutil.Process]]:
    """A server with a random recogniser in service; prints how long it took to start."""
    with tempfile.TemporaryDirectory() as folder, _stores(Path(folder)) as stack:
        settings = stack.settings.model_copy(update={"cache": Path(folder, "cache")})
        _put_in_service(settings, Path(folder))
        environment = {**os.environ, **settings.to_environment()}
        began = time.monotonic()
        process = psutil.Popen([sys.executable, "-m", "serving"], env=environment)
        try:
            while not _ready(f"{settings.serving_url}/v2/models/{settings.model_name}/ready"):
                time.sleep(0.05)
            print(f"in service {time.monotonic() - began:.1f} s after the start", end=", ")
            print(f"{cpu_seconds(process):.1f} s CPU")
            yield settings.serving_url, process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@contextmanager
def _stores(folder: Path) -> Iterator[Stack]:
    """Object storage and a broker on free ports."""
    stack = Stack(folder / "stack", ports=Ports.free())
    try:
        stack.up("objects", "events")
        yield stack
    finally:
        stack.down()


def _put_in_service(settings: Settings, folder: Path) -> None:
    """Leave a bundle in the cache and traffic in the database, as before a restart."""
    from hearloop import export
    from hearloop.architecture import Architecture
    from hearloop.model import Network
    from hearloop.tokenizer import Tokenizer

    tokenizer = Tokenizer("abcdefghijklmnopqrstuvwxyz' ")
    network = Network(Architecture(vocabulary=len(tokenizer)))
    bundle = export.write_bundle(folder / "bundle", network, tokenizer, training="none")
    place = settings.cache / "models" / bundle.digest
    place.parent.mkdir(parents=True)
    bundle.directory.rename(place)
    composition.traffic_store(settings).write(Traffic(stable="1"), {"1": bundle.digest})


def _ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1).is_success
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        with server() as (address, process):
            measure(address, process)
