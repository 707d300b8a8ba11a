"""The page as it is served: every part that it names is there, and nothing from elsewhere."""

import re

import httpx
import pytest

from tests.unit.serving.assembled import Server

PARTS = re.compile(
    r"""(?:src|href|from|URL\(|import)\s*=?\s*\(?['"]([\w./-]+\.(?:js|css|svg))['"]"""
)


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server.client


def test_the_page_and_all_that_it_names_is_served(client: httpx.Client) -> None:
    waiting, seen = ["index.html"], set()
    while waiting:
        name = waiting.pop().removeprefix("./")
        if name in seen:
            continue
        seen.add(name)
        answer = client.get(f"/page/{name}")
        assert answer.status_code == 200, name
        waiting += PARTS.findall(answer.text)
    assert {"index.html", "main.js", "style.css", "icon.svg", "microphone-worklet.js"} < seen


def test_nothing_from_elsewhere_may_run_in_it(client: httpx.Client) -> None:
    answer = client.get("/page/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.search(r"https?://|\son\w+=|<script>", answer.text)


def test_the_address_without_its_slash_leads_to_the_page(client: httpx.Client) -> None:
    assert client.get("/page", follow_redirects=True).text == client.get("/page/").text


@pytest.mark.parametrize("name", ["__init__.py", "nothing.js", "..%2Fserver.py"])
def test_only_parts_of_the_page_are_served(client: httpx.Client, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404
