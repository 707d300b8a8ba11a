"""The load generator: callers who speak 16 kHz PCM in real time over the realtime route.

A caller sends a piece when its last sample would have been recorded, whatever the server does, and
notes when the audio of each piece was covered by a result (`hearloop.heard`) and when each piece of
text came.
"""

import asyncio
import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from hearloop.audio import SAMPLE_RATE, Samples

__all__ = ["PIECE_S", "Call", "Track", "address", "call", "converse"]

PIECE_S: Final = 0.16
_PIECE: Final = int(PIECE_S * SAMPLE_RATE)
_LAST_SECONDS: Final = 10.0
"""For the last result, after the last piece."""

_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription."
_UPDATE: Final = orjson.dumps(
    {
        "type": "session.update",
        "session": {
            "type": "transcription",
            "audio": {"input": {"format": {"type": "audio/pcm", "rate": SAMPLE_RATE}}},
            "include": ["hearloop.heard"],
        },
    }
).decode()
_COMMIT: Final = '{"type":"input_audio_buffer.commit"}'


class Track:
    """Speech as the messages that carry it, made before the clock runs."""

    def __init__(self, samples: Samples) -> None:
        pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
        self.messages = [
            orjson.dumps(
                {
                    "type": "input_audio_buffer.append",
                    "audio": base64.b64encode(pcm[at : at + _PIECE].tobytes()).decode(),
                }
            ).decode()
            for at in range(0, len(pcm) - _PIECE + 1, _PIECE)
        ]


@dataclass
class Call:
    """What one caller saw. Times are seconds of the monotonic clock."""

    began: float = 0.0
    """When the first sample was spoken."""
    sent: list[float] = field(default_factory=list)
    """When each piece was sent."""
    covered: list[float] = field(default_factory=list)
    """When a result came that covers it."""
    texts: list[tuple[float, str, str]] = field(default_factory=list)
    """When the text of an item became what: (time, item, text)."""
    versions: set[str] = field(default_factory=set)
    failure: str = ""

    @property
    def latencies_s(self) -> list[float]:
        """From the sending of each piece to the result that covers it."""
        return [then - at for at, then in zip(self.sent, self.covered, strict=False)]

    @property
    def lags_s(self) -> list[float]:
        """How late each piece was sent: the load generator's own delay."""
        return [at - self.began - (n + 1) * PIECE_S for n, at in enumerate(self.sent)]


def address(url: str) -> str:
    """Of the realtime route."""
    return url.replace("http", "ws", 1) + "/openai/v1/realtime?intent=transcription"


async def call(url: str, track: Track, seconds: float, wait_s: float = 0.0) -> Call:
    """Speak `seconds` of a track. A failure is noted, never raised."""
    seen = Call()
    await asyncio.sleep(wait_s)
    try:
        async with connect(address(url), compression=None, max_queue=None) as socket:
            await socket.send(_UPDATE)
            done = asyncio.Event()
            hearing = asyncio.create_task(_hear(socket, seen, done))
            try:
                await _speak(socket, track, seconds, seen)
                await socket.send(_COMMIT)
                async with asyncio.timeout(_LAST_SECONDS):
                    await done.wait()
            finally:
                hearing.cancel()
                await asyncio.gather(hearing, return_exceptions=True)
    except (OSError, WebSocketException, TimeoutError) as error:
        seen.failure = repr(error)
    return seen


async def _speak(socket: ClientConnection, track: Track, seconds: float, seen: Call) -> None:
    seen.began = time.monotonic()
    for number in range(int(seconds / PIECE_S)):
        due = seen.began + (number + 1) * PIECE_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        seen.sent.append(time.monotonic())
        await socket.send(track.messages[number % len(track.messages)])


async def _hear(socket: ClientConnection, seen: Call, done: asyncio.Event) -> None:
    texts: dict[str, str] = {}
    async for message in socket:
        now = time.monotonic()
        event = orjson.loads(message)
        kind: str = event["type"]
        heard_s = event.get("heard_s")
        if heard_s is not None:
            covered = int((heard_s + 1e-6) / PIECE_S)
            seen.covered.extend([now] * (min(covered, len(seen.sent)) - len(seen.covered)))
        if kind == _TRANSCRIPTION + "delta":
            item = event["item_id"]
            texts[item] = event.get("revised") or texts.get(item, "") + event["delta"]
            seen.texts.append((now, item, texts[item]))
        elif kind == _TRANSCRIPTION + "completed":
            seen.versions.add(event["model_version"])
            if len(seen.covered) >= len(seen.sent) - 1 and event["transcript"] is not None:
                seen.covered.extend([now] * (len(seen.sent) - len(seen.covered)))
                done.set()
        elif kind == "error":
            seen.failure = event["error"]["message"]
            done.set()


async def converse(
    url: str, tracks: Sequence[Track], streams: int, seconds: float, ramp_s: float
) -> list[Call]:
    """`streams` callers at once, who begin one after the other within `ramp_s`."""
    return await asyncio.gather(
        *(call(url, tracks[n % len(tracks)], seconds, ramp_s * n / streams) for n in range(streams))
    )
