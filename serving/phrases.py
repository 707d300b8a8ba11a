"""What a recogniser is asked to expect: phrases of the request, of the tenant and of the speaker.

The tenant's come from the settings and from Feast's online store, the speaker's from the store
alone: words that corrections have shown the recogniser to miss. The store has a deadline; a request
goes on without what comes late.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from hearloop.errors import HearloopError, InvalidTranscript
from hearloop.hotwords import MOST_HOTWORDS, Hotword
from hearloop.phrase_store import PhraseStore
from hearloop.text import normalise
from serving import metrics
from serving.caller import Caller
from serving.settings import TenantSettings

__all__ = ["Phrases", "hotwords"]

DEADLINE_S: Final = 0.05
"""For the online store: a sixth of what a first word may take."""

MOST_ASKED: Final = 64
"""Questions to the store at once: more would only be late."""

log = logging.getLogger(__name__)


class Phrases:
    """Of all callers. `store` is None where there is no online store."""

    def __init__(
        self, tenant: Callable[[str], TenantSettings], store: PhraseStore | None = None
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._asking = 0

    async def of(self, caller: Caller) -> Mapping[str, float]:
        """The caller's phrases, without those of the request, and how much each is favoured."""
        return {**await self._stored(caller), **self._tenant(caller.tenant).hotwords}

    async def hotwords(self, keywords: Sequence[str], caller: Caller) -> tuple[Hotword, ...]:
        """All that is to be expected. Raises InvalidTranscript for a keyword nobody can say."""
        return hotwords(keywords, await self.of(caller))

    async def _stored(self, caller: Caller) -> Mapping[str, float]:
        if self._store is None or not (caller.tenant or caller.speaker):
            return {}
        if self._asking >= MOST_ASKED:
            metrics.PHRASES.labels("late").inc()
            return {}
        self._asking += 1
        try:
            async with asyncio.timeout(DEADLINE_S):
                found = await self._store.read(caller.tenant, caller.speaker or "")
        except TimeoutError:
            metrics.PHRASES.labels("late").inc()
            return {}
        except HearloopError as error:
            log.warning("Without the phrases of the store: %s", error)
            metrics.PHRASES.labels("failed").inc()
            return {}
        finally:
            self._asking -= 1
        metrics.PHRASES.labels("found" if found else "none").inc()
        return found


def hotwords(keywords: Sequence[str], phrases: Mapping[str, float]) -> tuple[Hotword, ...]:
    """Of the request's `keywords` and the caller's phrases with their boosts, in one spelling.

    Raises InvalidTranscript for a keyword that cannot be said; other phrases are left out, as
    whoever asks cannot mend them.
    """
    named = {normalise(phrase): Hotword.boost for phrase in keywords}
    for phrase, boost in phrases.items():
        if len(named) >= MOST_HOTWORDS:
            break
        try:
            named.setdefault(normalise(phrase), boost)
        except InvalidTranscript:
            log.warning("A phrase of the tenant or the speaker cannot be said and is left out")
    return tuple(Hotword(phrase=phrase, boost=boost) for phrase, boost in named.items())
