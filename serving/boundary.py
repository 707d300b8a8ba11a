"""The outermost layer: each request gets an id and passes the gate; no body is without bound.

Every answer carries the id, that to a failure of ours too, and says that it is to be kept nowhere.
"""

import asyncio
import logging
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hearloop.errors import HearloopError, ServiceUnavailable
from serving.access import Gate
from serving.caller import REQUEST_ID, TENANT, Caller
from serving.refusals import Busy, TooLarge, answer

__all__ = ["Boundary"]


DISCARDED = 4
"""How often the largest body is read beyond itself before its sender is cut off."""


MOST_LARGE = 6
"""Large bodies at once: what waits for its turn, and the disk that it takes meanwhile."""

_NONE: Mapping[str, int] = MappingProxyType({})

STARTS = ("http.response.start", "websocket.http.response.start", "websocket.accept")
"""Messages of ASGI that carry the headers of an answer."""

HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""Of answers that do not say otherwise: they hold what people said."""

log = logging.getLogger(__name__)


class Boundary:
    """ASGI middleware.

    `largest`: bytes of a body that is still read; `of_routes`: of those whose bodies lie in files,
    by path. At most MOST_LARGE of these are taken in at once. `closing`: set when bodies
    that are still being sent are not waited for any longer.
    """

    def __init__(
        self,
        app: ASGIApp,
        largest: int,
        gate: Gate,
        closing: asyncio.Event | None = None,
        of_routes: Mapping[str, int] = _NONE,
    ) -> None:
        self._app = app
        self._largest = largest
        self._of_routes = of_routes
        self._large = 0
        self._gate = gate
        self._closing = closing or asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        live = scope["type"] == "websocket"
        headers = MutableHeaders(scope=scope)
        named = _Named(send, str(uuid.uuid4()))
        try:
            headers[TENANT] = ""  # whatever a client says
            named.request_id = Caller.of(headers).request_id
            method = "WEBSOCKET" if live else scope["method"]
            admitted = await self._gate.admit(method, scope["path"], headers)
            headers.update(self._gate.written(admitted, headers))
            scope.setdefault("state", {})["admitted"] = admitted
            large = self._check_length(headers, scope["path"])
        except HearloopError as error:
            if isinstance(error, TooLarge | Busy):
                await self._discard(receive)
            await answer(error, scope["path"])(scope, receive, named)
            return
        headers[REQUEST_ID] = named.request_id
        try:
            if live:
                await self._app(scope, receive, named)
            else:
                await self._admitted(scope, receive, named, large)
        except Exception:
            log.exception("Request %s failed", named.request_id)
            if named.begun:
                raise
            failure = HearloopError(f"The server failed; report request {named.request_id}.")
            await answer(failure, scope["path"])(scope, receive, named)

    async def _admitted(self, scope: Scope, receive: Receive, send: Send, large: bool) -> None:
        self._large += large
        try:
            most = self._of_routes[scope["path"]] if large else self._largest
            await self._bounded(scope, receive, send, most)
        finally:
            self._large -= large

    async def _bounded(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        """Run the application; a body that outgrows the bound, or comes when the server closes, is
        refused instead."""
        read, more = 0, True
        refusal: HearloopError | None = None

        async def counting() -> Message:
            nonlocal read, more, refusal
            message = await (self._in_time(receive) if more else receive())
            if message is None:
                refusal = ServiceUnavailable("The server stops before all has come; send it again.")
                return {"type": "http.disconnect"}
            read += len(message.get("body", b""))
            more = bool(message.get("more_body"))
            if read > most:
                refusal = _too_large("more", most)
            return message if refusal is None else {"type": "http.disconnect"}

        async def unless_refused(message: Message) -> None:
            if refusal is None:
                await send(message)

        try:
            await self._app(scope, counting, unless_refused)
        except Exception:
            if refusal is None:
                raise
        if refusal is not None:
            if more and isinstance(refusal, TooLarge):
                await self._discard(receive)
            await answer(refusal, scope["path"])(scope, receive, send)

    async def _in_time(self, receive: Receive) -> Message | None:
        """The next part of a body; None where it has not come when the server closes."""
        part = asyncio.ensure_future(receive())
        closing = asyncio.ensure_future(self._closing.wait())
        either: set[asyncio.Future[Any]] = {part, closing}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return part.result() if part.done() else None
        finally:
            part.cancel()
            closing.cancel()

    async def _discard(self, receive: Receive) -> None:
        """Read on for a while: who is still sending would not see the answer."""
        read = 0
        while read < DISCARDED * self._largest:
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body"):
                return
            read += len(message["body"])

    def _check_length(self, headers: Headers, path: str) -> bool:
        """Whether the body is to be one of the large ones. Raises TooLarge, Busy."""
        given = headers.get("content-length", "")
        length = int(given) if given.isdecimal() else 0
        most = self._of_routes.get(path, self._largest)
        if length > most:
            raise _too_large(given, most)
        if length > self._largest and self._large >= MOST_LARGE:
            raise Busy(
                f"{self._large} long recordings are being taken in; try again in a minute.",
                retry_after_s=60.0,
            )
        return length > self._largest


def _too_large(length: str, most: int) -> TooLarge:
    return TooLarge(
        f"The body has {length} bytes where {most} are taken; send shorter audio, or compress it."
    )


class _Named:
    """`send` with the request id, and HEADERS, among the headers that a route has not set."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.request_id = request_id
        self.begun = False
        """Whether the headers are sent."""
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] in STARTS:
            self.begun = True
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in {REQUEST_ID: self.request_id, **HEADERS}.items():
                headers.setdefault(name, value)
        await self._send(message)
