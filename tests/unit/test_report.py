import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from hearloop.audio import encode_flac
from hearloop.gate import gate
from hearloop.recipe import GatePolicy
from hearloop.report import render
from hearloop.scores import (
    CHALLENGER,
    CHAMPION,
    GOLDEN,
    NEW,
    Evaluation,
    JudgedModel,
    JudgedSet,
    NonSpeechClip,
)
from hearloop.scoring import ScoredUtterance, answer, slices

POLICY = GatePolicy(resamples=300)

LEXICON = ["play", "call", "my", "mother", "transfer", "twenty", "pounds", "to", "anna", "third"]

VOID = {"meta", "br", "hr", "img", "link", "input"}


def garbled(words: list[str], share: float, generator: np.random.Generator) -> str:
    """Words with some of them replaced, dropped or doubled."""
    heard = []
    for word in words:
        kind = generator.choice(
            ["hit", "replace", "drop", "double"], p=[1 - share, *[share / 3] * 3]
        )
        heard += {"hit": [word], "replace": ["banana"], "drop": [], "double": [word, "uh"]}[kind]
    return " ".join(heard)


def made_up_set(champion: float, challenger: float, accents: tuple[str, ...]) -> JudgedSet:
    generator = np.random.default_rng(len(accents))
    utterances = []
    for speaker in range(40):
        for number in range(6):
            words = list(generator.choice(LEXICON, 7))
            shares = {CHAMPION: champion, CHALLENGER: challenger}
            utterances.append(
                ScoredUtterance(
                    id=f"{accents[0]}-{speaker:02}-{number}",
                    speaker=f"voice {speaker}",
                    call=None,
                    reference=" ".join(words),
                    seconds=float(generator.uniform(1, 6)),
                    audio_uri="s3://audio/1.flac",
                    audio_digest="",
                    slices=slices(
                        accent=accents[speaker % len(accents)],
                        source="synthetic",
                        seconds=float(generator.uniform(1, 6)),
                        snr_db=float(generator.uniform(5, 35)),
                    ),
                    answers={
                        role: answer(" ".join(words), garbled(words, share, generator), 0.87)
                        for role, share in shares.items()
                    },
                )
            )
    return JudgedSet(snapshots=("0123456789abcdef" * 4,), utterances=tuple(utterances))


def made_up() -> Evaluation:
    facts = {"size_bytes": 21_300_000, "real_time_factor": 0.0061}
    return Evaluation(
        models={
            CHAMPION: JudgedModel(version="1", **facts),
            CHALLENGER: JudgedModel(version="2", agreement=1.0, **facts),
        },
        sets={
            GOLDEN: made_up_set(0.04, 0.045, ("en-us", "en-gb", "en-gb-x-rp")),
            NEW: made_up_set(0.6, 0.15, ("en-gb-scotland", "en-029")),
        },
        clips=(
            NonSpeechClip(kind="silence", seconds=5.0, heard={CHAMPION: "", CHALLENGER: ""}),
            NonSpeechClip(kind="dial tone", seconds=60.0, heard={CHAMPION: "oh", CHALLENGER: ""}),
        ),
    )


def tone(utterance: ScoredUtterance) -> bytes:
    times = np.arange(16_000) / 16_000
    return encode_flac((0.1 * np.sin(2 * np.pi * 440 * times)).astype(np.float32))


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
    assert f"{100 * evaluation.wer(NEW, CHALLENGER):.1f} %" in html
    assert "en-gb-scotland" in html


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
