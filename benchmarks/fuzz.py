"""Throws mutated inputs at every route of a real server: `python -m benchmarks.fuzz`.

Figures: `fuzz_inputs` and `fuzz_crashes`. A crash is an answer of 500 to 599 other than 503, no
answer, a server that has ended, or a live stream of somebody else's that is disturbed. An input
that made one is kept in tests/fuzz/crashes, whose contents (and the seeds, one recording for each
format) are thrown again by tests/unit/serving/test_fuzz.py.
"""

import argparse
import asyncio
import hashlib
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import httpx
import numpy as np
import uvloop

from benchmarks.callers import Track, call
from benchmarks.results import record
from benchmarks.server import Served, serving
from benchmarks.throws import ROUTES, Thrown, crashed, throw

INPUTS: Final = 20_000
AT_ONCE: Final = 8
WATCHED: Final = 500
"""Inputs between two looks at somebody else's stream."""

HOME: Final = Path(__file__).parents[1] / "tests" / "fuzz"

Mutation = Callable[[random.Random, bytes], bytes]


def main() -> None:
    """Fuzz, and record the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(_bundle(Path(folder))) as served:
        outcome = uvloop.run(_fuzz(served, chosen.inputs, chosen.seed))
    answers = {str(status): count for status, count in sorted(outcome.answers.items(), key=str)}
    print(f"answers {answers}", *outcome.crashes[:10], sep="\n", file=sys.stderr)
    command = " ".join(["python -m benchmarks.fuzz", *sys.argv[1:]])
    record("serving", "fuzz_inputs", outcome.thrown, "inputs", command)
    record("serving", "fuzz_crashes", len(outcome.crashes), "inputs", command)


def _bundle(folder: Path) -> Path:
    """A small recogniser with random weights: what it writes does not matter here."""
    from hearloop import export
    from hearloop.architecture import Architecture
    from hearloop.model import Network
    from hearloop.tokenizer import Tokenizer

    tokenizer = Tokenizer("abcdefghijklmnopqrstuvwxyz' ")
    architecture = Architecture(vocabulary=len(tokenizer), front_channels=8, hidden=16, layers=2)
    export.write_bundle(folder / "bundle", Network(architecture), tokenizer, training="none")
    return folder / "bundle"


@dataclass
class Outcome:
    """What came of it."""

    thrown: int
    answers: Counter[int | str]
    crashes: list[str]


async def _fuzz(served: Served, inputs: int, seed: int) -> Outcome:
    outcome = Outcome(0, Counter(), [])
    pending = mutated(random.Random(seed), inputs)
    async with (
        httpx.AsyncClient(base_url=served.url, timeout=60.0) as client,
        grpc.aio.insecure_channel(served.grpc) as channel,
    ):
        while batch := [one for _, one in zip(range(WATCHED), pending, strict=False)]:
            watched = asyncio.create_task(call(served.url, _silence(), 2.0))
            left = iter(batch)
            await asyncio.gather(
                *(_throw_all(client, channel, left, outcome) for _ in range(AT_ONCE))
            )
            seen = await watched
            if seen.failure:
                outcome.crashes.append(f"somebody else's stream: {seen.failure}")
            if served.process.poll() is not None:
                outcome.crashes.append(f"the server ended with {served.process.poll()}")
                break
            print(f"{outcome.thrown} inputs", file=sys.stderr)
    return outcome


def _silence() -> Track:
    return Track(np.zeros(32_000, np.float32))


async def _throw_all(
    client: httpx.AsyncClient,
    channel: grpc.aio.Channel,
    thrown: Iterator[Thrown],
    outcome: Outcome,
) -> None:
    for one in thrown:
        answer = await throw(client, one, channel)
        outcome.thrown += 1
        outcome.answers[answer] += 1
        if crashed(answer):
            name = hashlib.sha256(one.body).hexdigest()[:16]
            place = HOME / "crashes" / f"{one.route}-{name}"
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(one.body)
            outcome.crashes.append(f"{place.name}: {answer}")


# Mutations.


def mutated(rng: random.Random, count: int) -> Iterator[Thrown]:
    """Inputs for all routes in turn, each a seed with some mutations."""
    recordings = [path.read_bytes() for path in sorted((HOME / "seeds").iterdir())]
    assert recordings, f"{HOME / 'seeds'} is empty"
    names = sorted(ROUTES)
    for number in range(count):
        route = names[number % len(names)]
        recording = _mutate(rng, rng.choice(recordings)) if rng.random() < 0.8 else b""
        body = ROUTES[route](recording or rng.choice(recordings))
        if rng.random() < 0.5 or not recording:
            body = _mutate(rng, body)
        yield Thrown(route=route, body=body)


def _mutate(rng: random.Random, body: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        body = rng.choice(MUTATIONS)(rng, body)
    return body


def _flip(rng: random.Random, body: bytes) -> bytes:
    if not body:
        return body
    at = rng.randrange(len(body))
    return body[:at] + bytes([body[at] ^ 1 << rng.randrange(8)]) + body[at + 1 :]


def _truncate(rng: random.Random, body: bytes) -> bytes:
    return body[: rng.randrange(len(body) + 1)]


def _extreme(rng: random.Random, body: bytes) -> bytes:
    """A field of a header that says nothing, or the most."""
    at, size = rng.randrange(min(len(body), 256) + 1), rng.choice((1, 2, 4, 8))
    value = rng.choice((b"\x00", b"\xff", b"\x7f", b"\x80")) * size
    return body[:at] + value + body[at + size :]


def _repeat(rng: random.Random, body: bytes) -> bytes:
    a, b = sorted(rng.randrange(len(body) + 1) for _ in range(2))
    return body[:b] + body[a:b] * rng.choice((1, 2, 8)) + body[b:]


def _remove(rng: random.Random, body: bytes) -> bytes:
    a, b = sorted(rng.randrange(len(body) + 1) for _ in range(2))
    return body[:a] + body[b:]


def _insert(rng: random.Random, body: bytes) -> bytes:
    at = rng.randrange(len(body) + 1)
    return body[:at] + rng.choice(SPLINTERS) + body[at:]


SPLINTERS: Final = (
    b"\x00" * 64,
    b"\xff" * 64,
    b'"', b"{", b"]", b"null", b"-1", b"1e999", b"NaN", b"9" * 40, b"\\ud800", b"\xc3\x28",
    b"../../etc/passwd", b"%00", b"\r\n", b"[" * 2_000,
)  # fmt: skip
MUTATIONS: Final[tuple[Mutation, ...]] = (_flip, _truncate, _extreme, _repeat, _remove, _insert)

if __name__ == "__main__":
    main()
