"""The recognisers of live calls: one engine for each version that calls are heard by."""

from typing import Final

from hearloop.recogniser import Recogniser
from hearloop.streaming import Engine, LiveStream, StreamOptions
from hearloop.streaming.channel import Listener
from serving.calls.models import Models

__all__ = ["Engines"]

MOST_CALLS: Final = 1024
"""Calls of one version at once, 10 KB each: more than a machine keeps up with in real time."""


class Engines:
    """For one thread."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._engines: dict[Recogniser, Engine] = {}

    def open(self, listener: Listener, options: StreamOptions) -> tuple[str, LiveStream]:
        """A stream of the version in service, and that version.

        Calls are let in whatever the load: what cannot be heard at once waits in Kafka, where
        refusing a caller would help nobody. Raises Overloaded when there are MOST_CALLS.
        """
        version, recogniser = self._models.current()
        if recogniser not in self._engines:
            self._engines[recogniser] = Engine(recogniser, most_streams=MOST_CALLS)
        return version, self._engines[recogniser].open(listener, options=options, admitted=True)

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
