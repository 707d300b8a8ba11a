"""The outermost layer: each request gets an id and passes the gate; no body is without bound."""

import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hearloop.errors import HearloopError
from serving.access import Gate
from serving.caller import REQUEST_ID, TENANT, Caller
from serving.refusals import TooLarge, answer

__all__ = ["Boundary"]


DISCARDED = 4
"""How often the largest body is read beyond itself before its sender is cut off."""


class Boundary:
    """ASGI middleware. `largest`: bytes of a body that is still read."""

    def __init__(self, app: ASGIApp, largest: int, gate: Gate) -> None:
        self._app = app
        self._largest = largest
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        live = scope["type"] == "websocket"
        headers = MutableHeaders(scope=scope)
        request_id = str(uuid.uuid4())
        try:
            headers[TENANT] = ""  # whatever a client says
            request_id = Caller.of(headers).request_id
            method = "WEBSOCKET" if live else scope["method"]
            admitted = await self._gate.admit(method, scope["path"], headers)
            headers.update(self._gate.written(admitted, headers))
            scope.setdefault("state", {})["admitted"] = admitted
            self._check_length(headers)
        except HearloopError as error:
            if isinstance(error, TooLarge):
                await self._discard(receive)
            await answer(error, scope["path"])(scope, receive, _naming(send, request_id))
            return
        headers[REQUEST_ID] = request_id
        if live:
            await self._app(scope, receive, send)
        else:
            await self._bounded(scope, receive, _naming(send, request_id))

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; a body that outgrows the bound is answered with 413 instead."""
        read, more = 0, True

        async def counting() -> Message:
            nonlocal read, more
            message = await receive()
            read += len(message.get("body", b""))
            more = bool(message.get("more_body"))
            return message if read <= self._largest else {"type": "http.disconnect"}

        async def unless_refused(message: Message) -> None:
            if read <= self._largest:
                await send(message)

        try:
            await self._app(scope, counting, unless_refused)
        except Exception:
            if read <= self._largest:
                raise
        if read > self._largest:
            if more:
                await self._discard(receive)
            await answer(self._too_large("more"), scope["path"])(scope, receive, send)

    async def _discard(self, receive: Receive) -> None:
        """Read on for a while: who is still sending would not see the answer."""
        read = 0
        while read < DISCARDED * self._largest:
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body"):
                return
            read += len(message["body"])

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._largest:
            raise self._too_large(length)

    def _too_large(self, length: str) -> TooLarge:
        return TooLarge(
            f"The body has {length} bytes where {self._largest} are taken; send shorter audio, "
            "or compress it."
        )


def _naming(send: Send, request_id: str) -> Send:
    """`send` with the request id among the headers, unless the route has put one there."""

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(raw=message.setdefault("headers", [])).setdefault(REQUEST_ID, request_id)
        await send(message)

    return named
