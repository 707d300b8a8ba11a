"""The reports in a real browser: they are drawn, and fit a phone as well as a desk."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo.report import render as render_demo
from hearloop.gate import gate
from hearloop.recipe import GatePolicy
from hearloop.report import render as render_evaluation
from tests.unit.demo.closing import details, summary
from tests.unit.evaluated import made_up, tone

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

POLICY = GatePolicy(resamples=200)

PHONE, DESK = 500, 1100
"""Widths in CSS pixels; a headless window is at least as wide as the first."""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to draw the pages with")


def evaluation_page() -> str:
    evaluation = made_up()
    return render_evaluation(evaluation, gate(evaluation, POLICY), policy=POLICY, audio=tone)


@pytest.fixture(scope="module", params=["evaluation", "demo"])
def html(request: pytest.FixtureRequest) -> str:
    return evaluation_page() if request.param == "evaluation" else render_demo(summary(), details())


def browse(page: str, folder: Path, *arguments: str) -> str:
    """Open the page and return what Chromium prints."""
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}", *arguments, path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_is_cut_off_at_the_side(html: str, width: int, tmp_path: Path) -> None:
    measuring = re.sub(r"<meta http-equiv[^>]*>", "", html) + (
        "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth"
        "</script>"
    )
    dom = browse(measuring, tmp_path, f"--window-size={width},2000", "--dump-dom")
    needed, given = re.search(r"<title>(\d+) of (\d+)</title>", dom).groups()  # type: ignore[union-attr]
    assert int(needed) <= int(given) == width


@pytest.mark.parametrize(("scheme", "dark"), [(1, False), (0, True)])
def test_the_page_is_drawn_in_light_and_dark(
    html: str, scheme: int, dark: bool, tmp_path: Path
) -> None:
    picture = tmp_path / "page.png"
    browse(
        html,
        tmp_path,
        f"--blink-settings=preferredColorScheme={scheme}",
        f"--window-size={DESK},1600",
        f"--screenshot={picture}",
    )
    pixels = np.asarray(Image.open(picture).convert("L"), float)
    assert (np.median(pixels) < 60) == dark
    drawn = np.abs(pixels - np.median(pixels)) > 60
    assert 0.01 < drawn.mean() < 0.5
