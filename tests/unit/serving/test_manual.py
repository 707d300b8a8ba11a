"""The manual of product teams, docs/serve.md, names routes that there are, and code that parses."""

import re
from pathlib import Path

import pytest

from hearloop.errors import NotFound
from serving.access import needed

PAGE = Path("docs/serve.md").read_text()

ROUTES = {
    path.replace("$OPENAI_BASE_URL", "/openai/v1").replace("$HEARLOOP_SERVING_URL", "")
    for path in re.findall(r"\$OPENAI_BASE_URL/[\w/]+|\$HEARLOOP_SERVING_URL/[\w/:]+", PAGE)
} | set(re.findall(r"`(/[\w./]+)`", PAGE))
ROUTES -= {"/openai", "/openai/v1"}  # beginnings of them


def test_it_shows_a_route_of_each_protocol() -> None:
    begins = {path.split("/")[1] for path in ROUTES}
    assert begins == {"openai", "v1", "v2", "feedback", "page"}


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_routes_are_there(path: str) -> None:
    for method in ("GET", "POST"):
        try:
            assert needed(method, path)
        except NotFound:
            continue
        return
    pytest.fail(f"{path} is no route")


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S))
def test_code_parses(block: str) -> None:
    compile(block, "docs/serve.md", "exec")
