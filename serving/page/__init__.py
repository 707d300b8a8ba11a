"""The web page: speak, drop a file, play words, correct them, work through the review queue.

One HTML page with its scripts and style, as they lie in this folder: no build step. It knows the
server only by the routes that everybody uses.
"""

import mimetypes
from collections.abc import Mapping
from importlib import resources
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from hearloop.errors import NotFound

__all__ = ["create_router"]

PAGE: Final = "index.html"

SUFFIXES: Final = {".html", ".js", ".css", ".svg"}

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; media-src blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "permissions-policy": "microphone=(self)",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
"""Nothing from elsewhere runs in the page, and nobody frames it: it holds tokens and voices."""


def create_router() -> APIRouter:
    """The page under `/page/`, open to anyone: what it does asks for a token, the page does not."""
    router = APIRouter(prefix="/page", include_in_schema=False)
    files = _files()

    @router.get("")
    def without_slash() -> Response:
        return RedirectResponse("page/")  # relative: a gateway may serve us under a prefix

    @router.get("/")
    def page() -> Response:
        return _answer(PAGE, files)

    @router.get("/{name}")
    def part(name: str) -> Response:
        return _answer(name, files)

    return router


def _files() -> Mapping[str, bytes]:
    folder = resources.files(__name__)
    return {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if file.is_file() and any(file.name.endswith(suffix) for suffix in SUFFIXES)
    }


def _answer(name: str, files: Mapping[str, bytes]) -> Response:
    if name not in files:
        raise NotFound(f"The page has no part {name[:60]!r}; open /page/.")
    kind = mimetypes.guess_type(name)[0]
    return Response(files[name], media_type=kind, headers=HEADERS)
