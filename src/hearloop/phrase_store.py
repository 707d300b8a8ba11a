"""Phrases that tenants and speakers are likely to say, in Feast's online store.

Asked and told by its feature server (`feast serve`) over HTTP, so that whoever does it needs no
Feast of its own; `hearloop prepare features` defines the views there.

>>> store = PhraseStore("http://127.0.0.1:6566")
>>> store.put_tenant("acme", {"flexi saver": 4.0})
>>> store.learn("acme", "anna", ["worthington"])
>>> await store.read("acme", "anna")
{'flexi saver': 4.0, 'worthington': 1.5}
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from hearloop.errors import ServiceUnavailable

__all__ = ["SPEAKER_VIEW", "TENANT_VIEW", "PhraseStore"]

TENANT_VIEW: Final = "tenant_phrases"
"""View of the entity `tenant`: `tenant_phrases` with `tenant_boosts` (nats a character)."""
SPEAKER_VIEW: Final = "speaker_phrases"
"""View of the entity `speaker` (`tenant|speaker`): `speaker_words`, newest last."""

SPEAKER_BOOST: Final = 1.5
"""Nats a character: half of what a phrase is worth that somebody asked for."""

MOST_WORDS: Final = 50
"""Of a speaker: what was corrected long ago makes room."""

WRITE_SECONDS: Final = 5.0


class PhraseStore:
    """`url`: of the feature server. Safe between threads and event loops."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._ssl = httpx.create_ssl_context()

    async def read(self, tenant: str, speaker: str) -> Mapping[str, float]:
        """Phrases with their boosts; empty for who is not known. Raises ServiceUnavailable."""
        try:
            async with httpx.AsyncClient(verify=self._ssl, timeout=WRITE_SECONDS) as client:
                question = _question(tenant, speaker)
                answer = await client.post(f"{self._url}/get-online-features", json=question)
            return _phrases(_values(answer))
        except httpx.HTTPError as error:
            raise self._away(error) from error

    def put_tenant(self, tenant: str, phrases: Mapping[str, float]) -> None:
        """Replace a tenant's phrases. Raises ServiceUnavailable."""
        row = {
            "tenant": tenant,
            "tenant_phrases": list(phrases),
            "tenant_boosts": list(phrases.values()),
        }
        self._write(TENANT_VIEW, row)

    def learn(self, tenant: str, speaker: str, words: Sequence[str]) -> None:
        """Add words that the recogniser missed when this speaker said them."""
        known = _values(self._post("/get-online-features", _question(tenant, speaker)))
        before = known.get("speaker_words") or []
        kept = [*(word for word in before if word not in words), *dict.fromkeys(words)]
        self._write_words(tenant, speaker, kept[-MOST_WORDS:])

    def forget(self, tenant: str, speaker: str) -> None:
        """Leave nothing of a speaker: Feast deletes no rows, so theirs is emptied."""
        self._write_words(tenant, speaker, [])

    def _write_words(self, tenant: str, speaker: str, words: Sequence[str]) -> None:
        row = {"speaker": _key(tenant, speaker), "speaker_words": list(words)}
        self._write(SPEAKER_VIEW, row)

    def _write(self, view: str, row: Mapping[str, Any]) -> None:
        stamped = {**row, "event_timestamp": datetime.now(UTC).isoformat()}
        frame = {name: [value] for name, value in stamped.items()}
        self._post("/write-to-online-store", {"feature_view_name": view, "df": frame})

    def _post(self, route: str, body: Mapping[str, Any]) -> httpx.Response:
        try:
            answer = httpx.post(self._url + route, json=body, timeout=WRITE_SECONDS)
            return answer.raise_for_status()
        except httpx.HTTPError as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"Feast's feature server at {self._url} did not answer: {error!r}; check that it runs "
            "and that `hearloop prepare features` has defined its views."
        )


def _key(tenant: str, speaker: str) -> str:
    return f"{tenant}|{speaker}"


def _question(tenant: str, speaker: str) -> dict[str, Any]:
    return {
        "features": [
            f"{TENANT_VIEW}:tenant_phrases",
            f"{TENANT_VIEW}:tenant_boosts",
            f"{SPEAKER_VIEW}:speaker_words",
        ],
        "entities": {"tenant": [tenant], "speaker": [_key(tenant, speaker)]},
    }


def _values(answer: httpx.Response) -> dict[str, Any]:
    """The features of the one row by their names, None for those without a value."""
    body = answer.raise_for_status().json()
    try:
        names = body["metadata"]["feature_names"]
        return {
            name: result["values"][0]
            for name, result in zip(names, body["results"], strict=True)
            if result["statuses"][0] == "PRESENT"
        }
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ServiceUnavailable(
            f"Feast's feature server answered what it never should: {error!r}."
        ) from error


def _phrases(values: Mapping[str, Any]) -> dict[str, float]:
    found = {str(word): SPEAKER_BOOST for word in values.get("speaker_words") or []}
    phrases, boosts = values.get("tenant_phrases") or [], values.get("tenant_boosts") or []
    return found | {str(p): float(b) for p, b in zip(phrases, boosts, strict=False)}
