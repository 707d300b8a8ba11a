import re

import pytest

from demo.charts import Detector, Mark, Request, detector_chart, traffic_chart
from demo.report import claims, render
from hearloop.report import percent
from tests.unit.demo.closing import details, detector, summary


@pytest.fixture(scope="module")
def html() -> str:
    return render(summary(), details())


def test_the_story_is_told_in_order(html: str) -> None:
    headings = re.findall(r"<h2 id=\"(\w+)\">", html)
    assert headings == [
        "claims", "traffic", "alarm", "retrain", "gate", "poison", "stages", "decisions", "more"
    ]  # fmt: skip


def test_the_figures_of_the_run_are_shown(html: str) -> None:
    for figure in (0.605, 0.192, 0.038, 0.044, 0.987):
        assert percent(figure) in html
    assert "8 min 32 s" in html
    assert "61 % of it outside training" in html
    for one in details().decisions:
        assert one.reason in html


def test_as_much_of_a_stage_is_hatched_as_was_training(html: str) -> None:
    assert re.findall(r'class="hatched" style="width: ([\d.]+)%"', html) == ["75.00", "75.00"]
    assert html.count('class="solid"') == len(details().stages)


def test_nothing_is_fetched_and_links_stay_relative(html: str) -> None:
    assert "<script" not in html
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert sources
    assert all(source.startswith("data:audio/") or "://" not in source for source in sources)


def test_every_claim_is_met_by_a_run_that_meets_it() -> None:
    assert all(claim.met for claim in claims(summary()))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("wer.base_voices.base", 0.051),
        ("wer.base_voices.challenger", 0.049),
        ("wer.changed_calls.base", 0.1),
        ("wer.changed_calls.challenger", 0.25),
        ("alarm.calls_before_change", 199),
        ("alarm.alarms_before_change", 1),
        ("alarm.calls_until_alarm", None),
        ("alarm.calls_until_alarm", 0),
        ("alarm.calls_until_alarm", -5),
        ("retrain.started_by", "operator"),
        ("retrain.trigger", "schedule"),
        ("serving.failed", 1),
        ("serving.requests", 0),
        ("serving.version_after", "1"),
        ("poison.champion_unchanged", False),
        ("poison.stopped", 299),
        ("poison.corrections", 0),
        ("poison.stopped_by", ""),
        ("poison.trigger_if_believed", "hold: too few corrections"),
        ("seconds.total", 901.0),
    ],
)
def test_a_run_that_misses_a_claim_says_so(path: str, value: object) -> None:
    figures = summary()
    *parents, last = path.split(".")
    holder = figures
    for parent in parents:
        holder = holder[parent]
    holder[last] = value
    assert not all(claim.met for claim in claims(figures))
    assert "✗" in render(figures, details())


def test_the_traffic_chart_counts_every_request() -> None:
    requests = [Request(at_s=float(at), version="1") for at in range(50)]
    requests += [Request(at_s=49.0, version=""), Request(at_s=49.0, version="<2>")]
    chart = traffic_chart(requests, [Mark(at_s=10.0, text="callers change")])
    assert chart.count('class="version-0"') == 50
    assert chart.count('class="failed"') == 1
    assert chart.count('class="version-1"') == 1
    assert "version &lt;2&gt;" in chart
    assert "52 requests" in chart


def test_the_detector_chart_shows_line_alarm_and_change() -> None:
    chart = detector_chart(detector())
    assert "alarm at 10,000" in chart
    assert chart.count("<circle") == 1
    heights = [float(y) for y in re.findall(r"[\d.]+,([\d.]+)", chart.split('points="')[1])]
    assert len(heights) == 240
    assert min(heights) < heights[0]
    silent = Detector(points=(), threshold=100.0, change_call=0, alarm_call=None)
    assert "<circle" not in detector_chart(silent)
