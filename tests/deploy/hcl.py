"""Terraform files as Python values."""

from functools import cache
from pathlib import Path
from typing import Any

import hcl2

TERRAFORM = Path(__file__).parents[2] / "terraform"


@cache
def read(path: str) -> dict[str, Any]:
    """One file below terraform/, its strings without their quotes."""
    with (TERRAFORM / path).open(encoding="utf-8") as file:
        plain: dict[str, Any] = _plain(hcl2.load(file))
    return plain


def variable(path: str, name: str) -> dict[str, Any]:
    """A variable of a file."""
    (found,) = (each[name] for each in read(path)["variable"] if name in each)
    described: dict[str, Any] = found
    return described


def local(path: str, name: str) -> Any:
    """A local value of a file."""
    (found,) = (each[name] for each in read(path)["locals"] if name in each)
    return found


def resource(path: str, kind: str, name: str) -> dict[str, Any]:
    """A resource of a file."""
    (found,) = (each[kind][name] for each in read(path)["resource"] if name in each.get(kind, {}))
    described: dict[str, Any] = found
    return described


def module(path: str, name: str) -> dict[str, Any]:
    """A call of a module in a file."""
    (found,) = (each[name] for each in read(path)["module"] if name in each)
    described: dict[str, Any] = found
    return described


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value
