"""How many live streams the server carries and how fast: `python -m benchmarks.live`.

The recogniser is that of `benchmarks.trained`, in service in int8; speech is its recipe's, of
speakers whom training did not hear. Server, stores and load generator share the machine.
"""

import argparse
import asyncio
import difflib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import httpx
import numpy as np
import uvloop
from torchaudio.functional import forced_align

from benchmarks.callers import PIECE_S, Call, Track, call, converse
from benchmarks.results import record
from benchmarks.server import Served, serving
from benchmarks.trained import add_bundle, bundle
from hearloop.architecture import OUTPUT_SECONDS
from hearloop.audio import SAMPLE_RATE, Samples
from hearloop.corpora.synthetic import calls
from hearloop.features import log_mel
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from hearloop.rollout.http import HttpRouter
from hearloop.streaming import Engine, Event, Heard
from pipelines.recipes import CALLERS

Figure = tuple[str, float, str]
"""Name, value, unit."""

PARTS: Final = ("streams", "overhead", "memory", "canary")
SPEAKERS: Final = 16
RAMP_S: Final = 10.0
BAR_S: Final = 0.3
"""p95 of the delay of results at which a number of streams counts as carried."""
ALONE_S: Final = 30.0
"""One stream's length where the server is compared with the bare recogniser."""
MEMORY_STREAMS: Final = (1_000, 10_000)
MEMORY_AT_ONCE: Final = 32
MEMORY_SECONDS: Final = 0.5
"""Of audio in each of those streams."""
MEMORY_PORTION: Final = 500
"""Streams after which the log of what was answered may catch up."""
MEMORY_TRIES: Final = 10
CANARY_STREAMS, CANARY_SECONDS = 50, 20.0


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """A track with what was said in it."""

    samples: Samples
    words: tuple[tuple[str, float], ...]
    """Each word and the second at which it ends, by forced alignment."""


def main() -> None:
    """Measure, and record the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__)
    add_bundle(parser)
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 150, 200])
    parser.add_argument("--seconds", type=float, default=60.0, help="of speech in each stream")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--memory-streams", type=int, nargs=2, default=MEMORY_STREAMS)
    chosen = parser.parse_args()
    measured = bundle(chosen.bundle)
    recogniser = Recogniser.load(measured, "int8")
    tracks = list(spoken(recogniser, chosen.seconds))
    with serving(measured) as served:
        for part in chosen.parts:
            for name, value, unit in _part(part, served, recogniser, tracks, chosen):
                record("serving", name, value, unit, f"python -m benchmarks.live --parts {part}")


def _part(
    part: str,
    served: Served,
    recogniser: Recogniser,
    tracks: Sequence[Spoken],
    chosen: argparse.Namespace,
) -> Iterator[Figure]:
    match part:
        case "streams":
            return streams(served, tracks, chosen.streams, chosen.seconds)
        case "overhead":
            return overhead(served, recogniser, tracks[0])
        case "memory":
            return memory(served, tracks[0], *chosen.memory_streams)
        case _:
            return canary(served, tracks)


# Speech.


def spoken(recogniser: Recogniser, seconds: float) -> Iterator[Spoken]:
    """Speech of several speakers, each of at least so many seconds."""
    for one in calls(CALLERS, "test", SPEAKERS, int(seconds / 1.5) + 4):
        parts: list[Samples] = []
        words: list[tuple[str, float]] = []
        at_s = 0.0
        for text, samples in one.utterances:
            words += [(word, at_s + end_s) for word, end_s in aligned(recogniser, text, samples)]
            parts.append(samples)
            at_s += len(samples) / SAMPLE_RATE
        assert at_s >= seconds, f"{one.speaker} speaks only {at_s:.0f} s"
        yield Spoken(samples=np.concatenate(parts), words=tuple(words))


def aligned(recogniser: Recogniser, text: str, samples: Samples) -> Iterator[tuple[str, float]]:
    """Each word of an utterance and where it ends, by forced alignment (torchaudio's)."""
    import torch

    (log_probs,) = recogniser.log_probs([log_mel(samples)])
    ids = recogniser.tokenizer.encode(text)
    path, _ = forced_align(torch.from_numpy(log_probs)[None], torch.tensor([ids]), blank=0)
    ends, token = [], -1
    previous = 0
    for frame, label in enumerate(path[0].tolist()):
        if label not in (0, previous):
            token += 1
            ends.append(frame)
        elif label:
            ends[token] = frame
        previous = label
    position = 0
    for word in text.split():
        position += len(word)
        yield word, (ends[position - 1] + 1) * OUTPUT_SECONDS
        position += 1


# Many streams at once.


def streams(
    served: Served, tracks: Sequence[Spoken], numbers: Sequence[int], seconds: float
) -> Iterator[Figure]:
    """The greatest number of streams at once that meets the bar, and the words' delay there."""
    sounds = [Track(one.samples) for one in tracks]
    best: tuple[int, list[Call]] | None = None
    for number in sorted(numbers):
        used = served.process.cpu_times()
        seen = uvloop.run(converse(served.url, sounds, number, seconds, RAMP_S))
        cpu = sum(served.process.cpu_times()[:2]) - sum(used[:2])
        passed = report(number, seen, cpu / (seconds + RAMP_S))
        if not passed:
            break
        best = number, seen
    if best is None:
        yield "live_streams", 0, "streams"
        return
    number, seen = best
    late = np.concatenate([one.latencies_s for one in seen])
    yield "live_streams", number, "streams"
    yield "live_partial_p95_ms", _p95(late) * 1000, "ms"
    delays = [
        delay
        for n, one in enumerate(seen)
        for delay in word_delays(one, tracks[n % len(tracks)], seconds)
    ]
    yield "word_delay_p95", _p95(delays) * 1000, "ms"


def report(number: int, seen: Sequence[Call], cores: float) -> bool:
    """Tell how a load went, on standard error. Did it meet the bar?"""
    failures = [one.failure for one in seen if one.failure]
    whole = [one for one in seen if not one.failure]
    late = np.concatenate([one.latencies_s for one in whole]) if whole else np.array([np.inf])
    lags = np.concatenate([one.lags_s for one in whole]) if whole else np.array([np.inf])
    p50, p95, p99 = np.percentile(late, [50, 95, 99]) * 1000
    print(
        f"{number} streams: result after {p50:.0f}/{p95:.0f}/{p99:.0f} ms (p50/p95/p99), "
        f"server {cores:.2f} cores, sent late by {_p95(lags) * 1000:.0f} ms (p95), "
        f"{len(failures)} failed {failures[:1]}",
        file=sys.stderr,
    )
    return not failures and p95 <= BAR_S * 1000


def word_delays(seen: Call, said: Spoken, seconds: float) -> Iterator[float]:
    """From the end of each word that was recognised to the moment at which all of it was shown."""
    shown: list[tuple[str, float]] = []
    items: dict[str, int] = {}
    for now, item, text in seen.texts:
        first = items.setdefault(item, len(shown))
        words = text.split()
        known = [word for word, _ in shown[first:]]
        same = next(
            (n for n, pair in enumerate(zip(known, words, strict=False)) if len(set(pair)) > 1),
            min(len(known), len(words)),
        )
        shown[first + same :] = [(word, now) for word in words[same:]]
    reference = [(word, end_s) for word, end_s in said.words if end_s < seconds]
    matcher = difflib.SequenceMatcher(
        None, [word for word, _ in reference], [word for word, _ in shown], autojunk=False
    )
    for a, b, size in matcher.get_matching_blocks():
        for k in range(size):
            yield shown[b + k][1] - seen.began - reference[a + k][1]


def _p95(values: Sequence[float] | np.ndarray) -> float:
    return float(np.percentile(values, 95)) if len(values) else float("inf")


# One stream.


def overhead(served: Served, recogniser: Recogniser, said: Spoken) -> Iterator[Figure]:
    """What the server adds to the delay of the bare recogniser, at p95."""
    seen = uvloop.run(call(served.url, Track(said.samples), ALONE_S))
    assert not seen.failure, seen.failure
    ours, bare = _p95(seen.latencies_s) * 1000, _p95(bare_latencies(recogniser, said)) * 1000
    print(f"one stream: {ours:.1f} ms by the server, {bare:.1f} ms without", file=sys.stderr)
    yield "server_overhead_p95_ms", ours - bare, "ms"


def bare_latencies(recogniser: Recogniser, said: Spoken) -> list[float]:
    """The same stream in this process, paced in the same way."""
    engine = Engine(recogniser, most_streams=1)
    sent: list[float] = []
    covered: list[float] = []
    pieces = int(ALONE_S / PIECE_S)
    done = threading.Event()

    def listen(event: Event) -> None:
        if isinstance(event, Heard):
            count = int((event.heard_s + 1e-6) / PIECE_S)
            covered.extend([time.monotonic()] * (count - len(covered)))
            if count >= pieces - 1:
                done.set()

    stream = engine.open(listen)
    began, size = time.monotonic(), int(PIECE_S * SAMPLE_RATE)
    for number in range(pieces):
        time.sleep(max(0.0, began + (number + 1) * PIECE_S - time.monotonic()))
        sent.append(time.monotonic())
        stream.accept(said.samples[number * size : (number + 1) * size])
    assert done.wait(10), "the recogniser did not answer"
    engine.close(0.0)
    return [then - at for at, then in zip(sent, covered, strict=False)]


# Many streams, one after the other.


def memory(served: Served, said: Spoken, few: int, many: int) -> Iterator[Figure]:
    """Resident memory of the server after many streams over that after few."""
    sound = Track(said.samples[: int(4 * MEMORY_SECONDS * SAMPLE_RATE)])
    resident: list[int] = []
    for count in (few, many - few):
        for begun in range(0, count, MEMORY_PORTION):
            uvloop.run(_in_turn(served.url, sound, min(MEMORY_PORTION, count - begun)))
            _wait_for_the_log(served.url)
        resident.append(served.process.memory_info().rss)
        print(f"{count} streams more: {resident[-1] >> 20} MiB", file=sys.stderr)
    yield "stream_memory_growth", resident[1] / resident[0], "ratio"


async def _in_turn(url: str, sound: Track, count: int) -> None:
    """So many streams that were heard to their end; one that is refused tries again."""
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            for _ in range(MEMORY_TRIES):
                if not (failure := (await call(url, sound, MEMORY_SECONDS)).failure):
                    break
                await asyncio.sleep(1.0)
            else:
                raise RuntimeError(f"A stream fails again and again: {failure}")

    await asyncio.gather(*(caller() for _ in range(MEMORY_AT_ONCE)))


def _wait_for_the_log(url: str) -> None:
    """Until what was answered is stored: the audio that waits is no leak."""
    while "\nhearloop_request_log_waiting 0" not in httpx.get(f"{url}/metrics").text:
        time.sleep(0.2)


# A swap under load.


def canary(served: Served, tracks: Sequence[Spoken]) -> Iterator[Figure]:
    """Streams that fail, or change their version, while the other version takes over."""
    router = HttpRouter(served.url, served.settings.serving_headers)
    old, new = served.versions
    steps = (
        Traffic(stable=old, canary=new, canary_percent=25),
        Traffic(stable=old, canary=new, canary_percent=75),
        Traffic(stable=new),
    )

    def roll_out() -> None:
        for step in steps:
            time.sleep(CANARY_SECONDS / 3)
            router.write(step)

    thread = threading.Thread(target=roll_out)
    thread.start()
    sounds = [Track(one.samples) for one in tracks]
    seen = uvloop.run(_two_waves(served.url, sounds))
    thread.join()
    failed = [
        one.failure or "changed its version" for one in seen if one.failure or len(one.versions) > 1
    ]
    print(f"{len(seen)} streams, versions {_versions(seen)}, failed {failed[:3]}", file=sys.stderr)
    assert httpx.get(f"{served.url}/v2/health/ready").is_success
    assert _versions(seen).get(new), "no stream went to the new version"
    yield "canary_failed_requests", len(failed), "streams"


async def _two_waves(url: str, sounds: Sequence[Track]) -> list[Call]:
    """Callers who are speaking when the versions change, and callers who come meanwhile."""
    half = CANARY_SECONDS / 2
    first = converse(url, sounds, CANARY_STREAMS, CANARY_SECONDS, 1.0)
    second = converse(url, sounds, CANARY_STREAMS, half, 2 * half)
    return [one for wave in await asyncio.gather(first, second) for one in wave]


def _versions(seen: Sequence[Call]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in seen:
        for version in one.versions:
            found[version] = found.get(version, 0) + 1
    return found


if __name__ == "__main__":
    main()
