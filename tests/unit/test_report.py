import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import soundfile

from hearloop.gate import gate
from hearloop.recipe import GatePolicy
from hearloop.report import percent, render
from hearloop.scores import CHALLENGER, NEW, Evaluation
from hearloop.scoring import answer, total
from tests.unit.evaluated import made_up, tone

POLICY = GatePolicy(resamples=300)

VOID = {"meta", "br", "hr", "img", "link", "input"}


def page(evaluation: Evaluation) -> str:
    return render(evaluation, gate(evaluation, POLICY), policy=POLICY, audio=tone)


class Outline(HTMLParser):
    """Checks that tags nest, and collects them with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def html() -> str:
    return page(made_up())


def test_the_page_nests_and_fetches_nothing(html: str) -> None:
    outline = Outline()
    outline.feed(html)
    outline.close()
    assert outline.open == []
    assert "script" not in dict(outline.tags)
    for _, attributes in outline.tags:
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#"))
    assert "url(" not in html


def test_tables_have_captions_and_headers(html: str) -> None:
    for table in re.findall(r"<table.*?</table>", html, re.DOTALL):
        assert "<caption>" in table
        assert 'scope="col"' in table
        assert 'scope="row"' in table


def test_the_recordings_play(html: str) -> None:
    found = re.findall(r'<audio[^>]* src="data:audio/flac;base64,([^"]+)"', html)
    assert len(found) > 12
    samples, sample_rate = soundfile.read(io.BytesIO(base64.b64decode(found[0])))
    assert (len(samples), sample_rate) == (16_000, 16_000)


def test_errors_are_told_by_more_than_colour(html: str) -> None:
    assert re.search(r"<del><span class=\"hidden\">instead of </span>\w+</del>", html)
    assert re.search(r'<ins class="insertion"><span class="hidden">inserted </span>uh</ins>', html)
    assert re.search(r'<del class="deletion"><span class="hidden">deleted </span>\w+</del>', html)


def test_every_check_and_figure_is_shown(html: str) -> None:
    evaluation = made_up()
    for check in gate(evaluation, POLICY).checks:
        assert check.name in html
        assert check.reason in html
    assert percent(evaluation.wer(NEW, CHALLENGER)) in html
    assert "en-gb-scotland" in html
    scots = [u for u in evaluation.sets[NEW].utterances if u.slices["accent"] == "en-gb-scotland"]
    counts = total(one.answers[CHALLENGER].words for one in scots)
    kinds = f"{counts.substitutions} substituted, {counts.insertions} inserted"
    assert f"{kinds}, {counts.deletions} deleted" in html


def test_what_people_said_cannot_become_markup() -> None:
    evaluation = made_up()
    first, *others = evaluation.sets[NEW].utterances
    hostile = "<script>alert(1)</script>"
    changed = replace(
        first,
        reference=hostile,
        answers={
            role: answer(hostile, f'"><img src=x> {hostile} a b c d e f g h i', 0.1)
            for role in first.answers
        },
    )
    judged = replace(evaluation.sets[NEW], utterances=(changed, *others))
    html = page(replace(evaluation, sets={**evaluation.sets, NEW: judged}))
    assert "&lt;script&gt;alert(1)" in html
    assert "<script" not in html
    assert "<img" not in html


def test_a_first_model_has_a_report_too() -> None:
    full = made_up()
    first = Evaluation(
        models={CHALLENGER: full.models[CHALLENGER]},
        sets={
            NEW: replace(
                full.sets[NEW],
                utterances=tuple(
                    replace(one, answers={CHALLENGER: one.answers[CHALLENGER]})
                    for one in full.sets[NEW].utterances
                ),
            )
        },
    )
    html = page(first)
    assert "unjudged" in html
    assert "no champion" in html
