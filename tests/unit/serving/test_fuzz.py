"""What the fuzzer begins with, and whatever once made it find a crash (`benchmarks.fuzz`)."""

import random
from pathlib import Path

import httpx
import pytest

from benchmarks.fuzz import mutated
from benchmarks.throws import GRPC, ROUTES, Thrown, crashed, throw
from hearloop.audio import decode
from tests.unit.serving.assembled import Server

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated"),
    # of Starlette's parser, which leaves the file of a part that breaks off to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HOME = Path(__file__).parents[2] / "fuzz"
SEEDS = sorted((HOME / "seeds").iterdir())
ALONE = set(ROUTES) - {"correction", "corrected", "queue", "claim", "skip", GRPC}
"""Routes that need no other service."""
CRASHES = sorted((HOME / "crashes").glob("*"))


async def thrown_at(server: Server, inputs: list[Thrown]) -> list[tuple[str, int | str]]:
    async with httpx.AsyncClient(base_url=server.client.base_url, timeout=30.0) as client:
        return [(one.route, await throw(client, one)) for one in inputs]


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.name)
def test_every_seed_is_a_recording(seed: Path) -> None:
    assert decode(seed.read_bytes()).seconds > 0.05


async def test_every_route_takes_a_seed(serving: Server) -> None:
    recording = SEEDS[0].read_bytes()
    inputs = [Thrown(route=name, body=ROUTES[name](recording)) for name in ALONE]
    assert dict(await thrown_at(serving, inputs)) == dict.fromkeys(ALONE, 200)


async def test_what_crashed_once_crashes_no_more(serving: Server) -> None:
    inputs = [
        Thrown(route=path.name.rpartition("-")[0], body=path.read_bytes()) for path in CRASHES
    ]
    answers = await thrown_at(serving, inputs)
    assert [one for one in answers if crashed(one[1])] == []


async def test_some_mutations_crash_nothing(serving: Server) -> None:
    inputs = [one for one in mutated(random.Random(1), 170) if one.route in ALONE]
    answers = await thrown_at(serving, inputs)
    assert [one for one in answers if crashed(one[1])] == []
    assert {route for route, _ in answers} == ALONE
