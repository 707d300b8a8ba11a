"""The Router port over the model server's admin routes (`/rollout/v1/traffic`)."""

from collections.abc import Mapping
from dataclasses import asdict

import httpx
from pydantic import TypeAdapter, ValidationError

from hearloop.errors import InvalidInput, ServiceUnavailable, VersionRefused
from hearloop.rollout.rule import Reading, Traffic

__all__ = ["TRAFFIC_ROUTE", "HttpRouter"]

TRAFFIC_ROUTE = "/rollout/v1/traffic"

READ_SECONDS = 10.0
WRITE_SECONDS = 120.0
"""Setting the traffic fetches a version from the registry, verifies it and warms it up."""

_READING = TypeAdapter(Reading)


class HttpRouter:
    """The router inside a running model server."""

    def __init__(self, serving_url: str, headers: Mapping[str, str] | None = None) -> None:
        """`headers`: with a token that has the role admin, where the server asks for one."""
        self._headers = headers
        self._url = serving_url.rstrip("/") + TRAFFIC_ROUTE

    def read(self) -> Reading:
        """The traffic and the evidence since it was set. Raises ServiceUnavailable."""
        answer = self._send("GET", None, READ_SECONDS)
        try:
            return _READING.validate_json(answer.content)
        except ValidationError as error:
            raise ServiceUnavailable(
                f"{self._url} answered something that is no traffic report "
                f"({error.error_count()} fields are wrong); check that serving_url is the model "
                "server's address and that both run the same release."
            ) from error

    def write(self, traffic: Traffic) -> None:
        """Set the traffic. Raises VersionRefused, InvalidInput or ServiceUnavailable."""
        self._send("PUT", traffic, WRITE_SECONDS)

    def _send(self, method: str, traffic: Traffic | None, seconds: float) -> httpx.Response:
        body = None if traffic is None else asdict(traffic)
        try:
            answer = httpx.request(
                method, self._url, json=body, headers=self._headers, timeout=seconds
            )
        except httpx.HTTPError as error:
            raise ServiceUnavailable(
                f"The model server at {self._url} did not answer ({error}); start it, or correct "
                "the serving_url setting."
            ) from error
        if answer.is_success:
            return answer
        message = _sentence(answer)
        if answer.status_code in (409, 422):
            raise VersionRefused(message)
        if answer.status_code == 400:
            raise InvalidInput(message)
        raise ServiceUnavailable(f"{self._url} answered {answer.status_code}: {message}")


def _sentence(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200] or answer.reason_phrase
