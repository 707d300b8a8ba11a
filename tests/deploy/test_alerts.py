"""Every alert: its rule is sound, fires when it should and not before, and has a runbook."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.metrics import OUR_FAULT
from tests.deploy.exported import RULES, Exported, exported, rule_groups, unknown

TESTS = RULES / "tests"
RUNBOOKS = Path("monitoring/runbooks")
SECTIONS = ["## What it means", "## What to look at", "## What to do"]

ALERTS = [
    pytest.param(rule, id="-".join([rule["alert"], *_window]))
    for rules in rule_groups().values()
    for rule in rules
    if "alert" in rule
    for _window in [[rule["labels"]["window"]] if "window" in rule["labels"] else []]
]
EXPRESSIONS = [
    pytest.param(rule["expr"], id=f"{file}-{rule.get('record', rule.get('alert'))}-{number}")
    for file, rules in rule_groups().items()
    for number, rule in enumerate(rules)
]

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed; on Debian or Ubuntu: apt-get install prometheus",
)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    with pytest.MonkeyPatch.context() as patched:
        yield exported(tmp_path_factory.mktemp("exported"), patched)


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", *map(str, sorted(RULES.glob("*.yaml"))))


@needs_promtool
@pytest.mark.parametrize("file", sorted(TESTS.glob("*.yaml")), ids=lambda path: path.name)
def test_rules_behave(file: Path) -> None:
    promtool("test", "rules", str(file))


@pytest.mark.parametrize("rule", ALERTS)
def test_alert_is_tested_the_minute_before_it_fires_and_the_minute_after(
    rule: dict[str, Any],
) -> None:
    flips = [
        flip
        for file in TESTS.glob("*.yaml")
        for flip in _flips(yaml.safe_load(file.read_text()), rule)
    ]
    assert flips, "no test sees this alert begin to fire from one minute to the next"


def _flips(document: dict[str, Any], rule: dict[str, Any]) -> Iterator[int]:
    """Minutes at which a test sees the alert fire that did not fire one minute before."""
    if _minutes(document["evaluation_interval"]) > 1:
        return
    for test in document["tests"]:
        firing = {
            _minutes(each["eval_time"]): any(
                alert["exp_labels"].get("window") == rule["labels"].get("window")
                for alert in each["exp_alerts"]
            )
            for each in test.get("alert_rule_test", [])
            if each["alertname"] == rule["alert"]
        }
        yield from (at for at in firing if firing[at] and firing.get(at - 1) is False)


def _minutes(duration: str) -> int:
    units = {"d": 1440, "h": 60, "m": 1}
    return sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+)([dhm])", duration))


@pytest.mark.parametrize("rule", ALERTS)
def test_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"].endswith(".")
    runbook = Path(rule["annotations"]["runbook_url"])
    assert runbook == RUNBOOKS / f"{rule['alert']}.md"
    text = runbook.read_text()
    assert text.startswith(f"# {rule['alert']}\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == SECTIONS
    for section in re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]:
        assert len(section.split()) >= 15, "a section says next to nothing"


def test_runbooks_belong_to_alerts() -> None:
    alerts = {f"{parameter.values[0]['alert']}.md" for parameter in ALERTS}
    assert {path.name for path in RUNBOOKS.glob("*.md")} == alerts


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_rule_names_only_metrics_that_are_exported(expression: str, there: Exported) -> None:
    assert unknown(expression, there) == []


def test_availability_counts_the_refusals_that_are_our_fault() -> None:
    text = (RULES / "objectives.yaml").read_text()
    counted = set(re.findall(r'hearloop_refusals_total\{reason=~"([^"]*)"\}', text))
    assert counted == {"|".join(OUR_FAULT)}
