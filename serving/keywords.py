"""What a recogniser is asked to expect: the tenant's phrases and those of the request."""

from collections.abc import Mapping, Sequence

from hearloop.hotwords import Hotword
from hearloop.text import normalise

__all__ = ["hotwords"]


def hotwords(keywords: Sequence[str], tenants: Mapping[str, float]) -> tuple[Hotword, ...]:
    """Of the request's `keywords` and the tenant's phrases with their boosts, in one spelling.

    Raises InvalidTranscript for a phrase that cannot be said.
    """
    named = {normalise(phrase): boost for phrase, boost in tenants.items()}
    named |= {normalise(phrase): Hotword.boost for phrase in keywords}
    return tuple(Hotword(phrase=phrase, boost=boost) for phrase, boost in named.items())
