"""What the manuals, k8s/README.md and the runbooks tell people to type and to read exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from hearloop import cli
from pipelines import __main__ as pipelines

PAGES = [
    Path("k8s/README.md"),
    Path("docs/serve.md"),
    *sorted(Path("docs/operate").glob("*.md")),
    *sorted(Path("monitoring/runbooks").glob("*.md")),
]

FOLDERS = ("docs", "images", "k8s", "monitoring", "serving", "src", "terraform", "tests", "demo")
"""Where a path in backquotes leads into the repository."""

ELSEWHERE = {"mlflow", "kfp"}
"""Modules of others that may be run by `python -m`."""

page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def commands(app: typer.Typer) -> set[str]:
    return set(getattr(typer.main.get_command(app), "commands"))  # noqa: B009


def code(text: str) -> Iterator[str]:
    """What stands in blocks and between backquotes."""
    blocks = re.findall(r"^\s*```\w*\n(.*?)^\s*```", text, flags=re.MULTILINE | re.DOTALL)
    yield from blocks
    prose = re.sub(r"^\s*```\w*\n.*?^\s*```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", prose)


@page
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@page
def test_named_files_are_there(page: Path) -> None:
    paths = {
        word
        for each in code(page.read_text())
        for word in re.findall(r"(?<![\w./-])[\w.*-]+(?:/[\w.*-]+)+", each)
        if word.split("/")[0] in FOLDERS
    }
    assert [path for path in sorted(paths) if not list(Path().glob(path))] == []


@page
def test_commands_exist(page: Path) -> None:
    text = "\n".join(code(page.read_text()))
    targets = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text(), flags=re.MULTILINE))
    used = {
        "make": (set(re.findall(r"(?:^|\s)make ([a-z-]+)", text)), targets),
        "hearloop": (
            set(re.findall(r"(?:^|bin/)hearloop ([a-z]+)", text, flags=re.MULTILINE))
            | set(re.findall(r'"hearloop", "([a-z]+)"', text)),
            commands(cli.app),
        ),
        "python -m pipelines": (
            set(re.findall(r"-m pipelines ([a-z]+)", text)),
            commands(pipelines.app),
        ),
    }
    wrong = {name: there - known for name, (there, known) in used.items() if there - known}
    assert wrong == {}


@page
def test_modules_can_be_run(page: Path) -> None:
    modules = set(re.findall(r"python -m ([\w.]+)", "\n".join(code(page.read_text()))))
    missing = [
        module
        for module in modules - ELSEWHERE
        if not Path(*module.split(".")).with_suffix(".py").exists()
        and not Path(*module.split("."), "__main__.py").exists()
    ]
    assert missing == []
