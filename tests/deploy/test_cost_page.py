"""The cost page names what the environments ask for, and its sums are those of its prices."""

import re
from pathlib import Path

import pytest

from tests.deploy import hcl

PAGE = Path("docs/operate/cost.md").read_text(encoding="utf-8")
HOURS = 730  # a month
SIZES = r"\b(?:db\.|cache\.|kafka\.)?[a-z]\d\w*\.\d?x?large\b|\b[\w.]*t[34]g?\.(?:small|medium)\b"

PRICED = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in PAGE.splitlines()
    if re.match(r"\| [\w ]+ \| [^|]+ \| [\d.]+ \|", line)
]
"""Piece, size, price an hour, and units and dollars a month of both environments."""


@pytest.mark.parametrize("row", PRICED, ids=lambda row: row[1])
def test_a_line_is_price_times_units(row: list[str]) -> None:
    price = float(row[2])
    for units, dollars in (row[3:5], row[5:7]):
        assert round(price * int(units) * HOURS) == int(dollars)


def test_sums_are_those_of_the_lines() -> None:
    (staging, production) = re.findall(r"\*\*(\d+)\*\*", PAGE)
    assert len(PRICED) == 12
    assert int(staging) == sum(int(row[4]) for row in PRICED)
    assert int(production) == sum(int(row[6]) for row in PRICED)


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_sizes_are_those_of_the_environments(environment: str) -> None:
    main = (hcl.TERRAFORM / "environments" / environment / "main.tf").read_text(encoding="utf-8")
    asked = set(re.findall(SIZES, main))
    assert len(asked) >= 5
    assert asked <= set(re.findall(SIZES, PAGE))
    (budget,) = re.findall(r"budget_usd\s+= (\d+)", main)
    assert f"({int(budget):,} USD" in PAGE or f" {int(budget):,} for both" in PAGE
