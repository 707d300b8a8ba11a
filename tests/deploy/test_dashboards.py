"""Every panel of every dashboard asks something that parses, of metrics that there are."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from monitoring.dashboards.__main__ import FOLDER, rendered
from tests.deploy.exported import Exported, exported, unknown

GRAFANA = {"$__rate_interval": "1m", "${datasource}": "prometheus"}
"""What Grafana puts in before it asks."""

BOARDS = {name: json.loads(text) for name, text in rendered().items()}

PANELS = [
    pytest.param(panel, id=f"{name}-{panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
QUERIES = [
    pytest.param(target["expr"], id=f"{parameter.id}-{target.get('legendFormat', 'now')}")
    for parameter in PANELS
    for target in parameter.values[0]["targets"]
]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    with pytest.MonkeyPatch.context() as patched:
        yield exported(tmp_path_factory.mktemp("exported"), patched)


def filled_in(query: str) -> str:
    for variable, value in GRAFANA.items():
        query = query.replace(variable, value)
    return query


@pytest.mark.parametrize("query", QUERIES)
def test_query_parses_and_names_only_metrics_that_are_exported(query: str, there: Exported) -> None:
    assert unknown(filled_in(query), there) == []


@pytest.mark.parametrize("panel", PANELS)
def test_panel_says_what_it_shows_and_in_what_unit(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] in GRAFANA


@pytest.mark.parametrize("name", BOARDS)
def test_panels_lie_side_by_side(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + row)
            for column in range(place["w"])
            for row in range(place["h"])
        }
        assert max(column for column, _ in cells) < 24
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells


def test_files_are_what_the_code_says() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert written == rendered(), "run: python -m monitoring.dashboards"


def test_kustomize_takes_every_dashboard() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    taken = {file for each in kustomization["configMapGenerator"] for file in each["files"]}
    assert taken == {path.name for path in Path(FOLDER).glob("*.json")}


def test_a_metric_that_nobody_exports_is_found(there: Exported) -> None:
    assert unknown("sum(hearloop_nothing_total)", there) == ["hearloop_nothing_total"]
    assert unknown('hearloop_requests_total{outcome="lost"}', there) == [
        'hearloop_requests_total{outcome="lost"}'
    ]
    assert unknown('hearloop_live{colour="red"}', there) == ["hearloop_live{colour}"]
    with pytest.raises(ValueError, match="unclosed"):
        promql_parser.parse("sum(")
