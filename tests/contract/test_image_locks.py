"""What a service imports is in the lock of its image: found here before an image is built."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"hearloop", "serving", "monitoring", "components", "pipelines"}

SOURCES = {
    "serving": [*ROOT.glob("serving/*.py"), *ROOT.glob("serving/calls/*.py")],
    "functions": list(ROOT.glob("serving/functions/*.py")),
    "monitor": list(ROOT.glob("monitoring/*.py")),
    "pipeline": [
        path for name in ("components", "pipelines") for path in (ROOT / name).rglob("*.py")
    ],
}


def imported(path: Path) -> set[str]:
    """Top-level packages that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("image", SOURCES)
def test_what_is_imported_is_in_the_lock(image: str) -> None:
    lock = (ROOT / "images" / image / "requirements.txt").read_text()
    locked = {key(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    distributions = packages_distributions()
    outside = {name for path in SOURCES[image] for name in imported(path)} - OURS
    missing = {
        name
        for name in outside - set(sys.stdlib_module_names)
        if not locked & {key(one) for one in distributions.get(name, [name])}
    }

    assert SOURCES[image]
    assert not missing, f"name them in images/{image}/requirements.in and run images/lock.sh"
