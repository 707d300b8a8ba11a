"""What each version did, read from Prometheus: the evidence of a rollout over many replicas.

The counters of every replica are added up from a moment on, with Prometheus's own clock, and
exactly: PromQL's `increase` extrapolates to the edges of its window and loses the first count of a
new replica, so the samples themselves are read.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import httpx

from hearloop.errors import ServiceUnavailable
from hearloop.rollout.rule import Tally

__all__ = ["CALLS", "OTHERS", "REQUESTS", "PrometheusTallies", "increase"]

REQUESTS: Final = "hearloop_requests_total"
"""Counter of the model server: utterances by version and outcome."""
CALLS: Final = "hearloop_calls_total"
"""Counter of the model server: calls by version; `failed` and `empty` ones are `begun` ones too."""

OTHERS: Final = "calls"
"""Container of those that hear calls through Kafka, by the stable version alone: they count too,
and what they count is no baseline for a canary."""

QUERY_SECONDS: Final = 10.0

OLDEST_SECONDS: Final = 300.0
"""How much older than the moment a counter's last sample may be: Prometheus itself forgets a series
that has been silent for so long."""

FIELDS: Final = {
    (REQUESTS, "failed"): "failures",
    (REQUESTS, "empty"): "empty",
    (CALLS, "begun"): "calls",
    (CALLS, "failed"): "failed_calls",
    (CALLS, "empty"): "empty_calls",
}
"""Where each counter goes in a Tally."""

ANSWERED: Final = ("answered", "empty", "failed")
"""Outcomes that count as a request that the version dealt with."""


class PrometheusTallies:
    """Tallies of the model servers of one namespace."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._namespace = namespace

    def now(self) -> float:
        """Seconds on Prometheus's clock. Raises ServiceUnavailable."""
        return float(self._query("time()")[0])

    def since(self, moment: float, versions: Iterable[str]) -> dict[str, Tally]:
        """What the versions did after `moment`, over all replicas, those that are gone too.

        Raises ServiceUnavailable.
        """
        window = max(0.0, self.now() - moment) + OLDEST_SECONDS
        ours = f'namespace="{self._namespace}",container!="{OTHERS}"'
        labels = f'__name__=~"{REQUESTS}|{CALLS}",{ours}'
        counts: dict[str, dict[str, int]] = {version: defaultdict(int) for version in versions}
        for series in self._query(f"{{{labels}}}[{window:.0f}s]"):
            version = series["metric"].get("version")
            if version in counts:
                _add(counts[version], series["metric"], increase(series["values"], moment))
        return {version: Tally(**fields) for version, fields in counts.items()}

    def _query(self, query: str) -> Any:
        try:
            answer = httpx.get(self._url, params={"query": query}, timeout=QUERY_SECONDS)
            body = answer.raise_for_status().json()
            if body["status"] != "success":
                raise KeyError(body.get("error", body["status"]))
            return body["data"]["result"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise ServiceUnavailable(
                f"Prometheus at {self._url} did not answer {query!r}: {error}; check "
                "HEARLOOP_ROLLOUT__PROMETHEUS_URL and that it runs."
            ) from error


def increase(samples: Sequence[tuple[float, str]], moment: float) -> int:
    """How much a counter grew after `moment`; a counter that fell was started again from 0.

    `samples`: seconds and value, in order. A series whose first sample is later than `moment`
    began with its replica, from 0.
    """
    before, grown = 0.0, 0.0
    for seconds, text in samples:
        value = float(text)
        if seconds > moment:
            grown += value - before if value >= before else value
        before = value
    return round(grown)


def _add(fields: dict[str, int], labels: Mapping[str, str], count: int) -> None:
    name, outcome = labels.get("__name__", ""), labels.get("outcome", "")
    if field := FIELDS.get((name, outcome)):
        fields[field] += count
    if name == REQUESTS and outcome in ANSWERED:
        fields["requests"] += count
