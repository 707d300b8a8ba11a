"""The recognisers of live calls: one engine for each version that calls are heard by."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hearloop.hotwords import Hotword
from hearloop.recogniser import Recogniser
from hearloop.streaming import Engine, LiveStream, StreamOptions
from hearloop.streaming.channel import Listener
from serving.caller import Caller
from serving.calls.models import Models
from serving.phrases import Phrases

__all__ = ["Engines", "Opened"]

MOST_CALLS: Final = 1024
"""Calls of one version at once, 10 KB each: more than a machine keeps up with in real time."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A call's stream, and what hears it."""

    version: str
    phrases: str
    """Names the phrases that are expected; empty without any."""
    stream: LiveStream


class Engines:
    """For one thread, in which no event loop runs."""

    def __init__(self, models: Models, phrases: Phrases) -> None:
        self._models = models
        self._phrases = phrases
        self._engines: dict[Recogniser, Engine] = {}

    def open(self, listener: Listener, caller: Caller, options: StreamOptions) -> Opened:
        """A stream of the version in service, which expects the caller's phrases.

        Calls are let in whatever the load: what cannot be heard at once waits in Kafka, where
        refusing a caller would help nobody. Raises Overloaded when there are MOST_CALLS.
        """
        version, recogniser = self._models.current()
        if recogniser not in self._engines:
            self._engines[recogniser] = Engine(recogniser, most_streams=MOST_CALLS)
        known = asyncio.run(self._phrases.of(caller))
        hotwords = self._phrases.hotwords((), known, caller, recogniser.tokenizer)
        stream = self._engines[recogniser].open(
            listener, options=replace(options, hotwords=hotwords), admitted=True
        )
        return Opened(version=version, phrases=_digest(hotwords), stream=stream)

    def retire(self) -> None:
        """End the engines of versions that serve no more and hear no call any longer."""
        _, current = self._models.current()
        for recogniser, engine in list(self._engines.items()):
            if recogniser is not current and not engine.live:
                del self._engines[recogniser]
                engine.close(0.0)

    def close(self) -> None:
        """End all of them, with the calls that they hear."""
        for engine in self._engines.values():
            engine.close(0.0)
        self._engines.clear()


def _digest(hotwords: Sequence[Hotword]) -> str:
    """12 hex digits of SHA-256; empty without phrases."""
    if not hotwords:
        return ""
    lines = sorted(f"{one.phrase}|{one.boost}" for one in hotwords)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
