"""How a stream wants to be listened to."""

from dataclasses import dataclass, field
from typing import Literal

from hearloop.hotwords import Hotword

__all__ = ["Endpointing", "StreamOptions"]


@dataclass(frozen=True, kw_only=True)
class Endpointing:
    """When an utterance is over."""

    silence_s: float = 0.6
    """Seconds without a voice and without a character, after some words."""
    blank_s: float = 1.5
    """Seconds without a character that are enough where noise sounds like a voice."""
    longest_s: float = 30.0
    """An utterance that goes on longer is cut at the next gap between two words."""


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """What one stream may choose."""

    endpointing: Endpointing | None = field(default_factory=Endpointing)
    """None: the caller says where utterances end, by `LiveStream.commit`."""
    hotwords: tuple[Hotword, ...] = ()
    partials: bool = True
    search: Literal["greedy", "beam"] = "greedy"
    """Hotwords need the beam: with them it is used whatever stands here."""
