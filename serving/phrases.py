"""What a recogniser is asked to expect: phrases of the request, of the tenant and of the speaker.

The tenant's come from the settings and from Feast's online store, the speaker's from the store
alone: words that corrections have shown the recogniser to miss. The store has a deadline; a request
goes on without what comes late.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from hearloop.errors import HearloopError, InvalidInput, InvalidTranscript
from hearloop.hotwords import MOST_HOTWORDS, Hotword
from hearloop.phrase_store import PhraseStore
from hearloop.text import normalise
from hearloop.tokenizer import Tokenizer
from serving import metrics
from serving.caller import Caller
from serving.settings import TenantSettings

__all__ = ["Phrases"]

DEADLINE_S: Final = 0.05
"""For the online store: a sixth of what a first word may take."""

MOST_ASKED: Final = 64
"""Questions to the store at once: more would only be late."""

MOST_SPELT: Final = 4 * MOST_HOTWORDS
"""Phrases whose spelling is remembered: to find it takes longer than all else that they cost."""

log = logging.getLogger(__name__)


class Phrases:
    """Of all callers. `store` is None where there is no online store."""

    def __init__(
        self, tenant: Callable[[str], TenantSettings], store: PhraseStore | None = None
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._asking = 0
        self._told: set[str] = set()
        """Tenants of whom the log says already that phrases are left out."""

    async def of(self, caller: Caller) -> Mapping[str, float]:
        """What is known of the caller: phrases, and how much each is favoured."""
        return {**await self._stored(caller), **self._tenant(caller.tenant).hotwords}

    def hotwords(
        self,
        keywords: Sequence[str],
        known: Mapping[str, float],
        caller: Caller,
        tokenizer: Tokenizer,
    ) -> tuple[Hotword, ...]:
        """The request's `keywords` and what is `known` of the caller, as the model spells them.

        Raises InvalidInput for a keyword that the model cannot write. Other phrases that it cannot
        are left out, as whoever asks cannot mend them: counted, and told once of each tenant.
        """
        named = {_asked(phrase, tokenizer): Hotword.boost for phrase in keywords}
        left_out = 0
        for phrase, boost in known.items():
            if len(named) >= MOST_HOTWORDS:
                break
            try:
                named.setdefault(_spelt(phrase, tokenizer), boost)
            except InvalidTranscript:
                left_out += 1
        if left_out:
            self._tell(left_out, caller.tenant)
        return tuple(Hotword(phrase=phrase, boost=boost) for phrase, boost in named.items())

    def _tell(self, left_out: int, tenant: str) -> None:
        metrics.PHRASES_LEFT_OUT.inc(left_out)
        if tenant not in self._told:
            self._told.add(tenant)
            log.warning(
                "%d phrases of tenant %r or of its speaker cannot be written by the model and are "
                "left out; put others in their place with `hearloop phrases`.",
                left_out,
                tenant,
            )

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


def _asked(keyword: str, tokenizer: Tokenizer) -> str:
    try:
        return _spelt(keyword, tokenizer)
    except InvalidTranscript as error:
        raise InvalidInput(f"A keyword cannot be listened for: {error}") from error


@lru_cache(maxsize=MOST_SPELT)
def _spelt(phrase: str, tokenizer: Tokenizer) -> str:
    """A phrase in the model's language. Raises InvalidTranscript where it cannot write it."""
    said = normalise(phrase, tokenizer.language)
    tokenizer.encode(said)
    return said
