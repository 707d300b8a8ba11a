"""The few kinds of panel that our dashboards are made of, all over one Prometheus."""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import BigValueColorMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)

__all__ = ["Panel", "board", "figure", "graph"]

Panel = stat.Panel | timeseries.Panel

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

COLUMNS = 24
"""Of Grafana's grid."""

GRAPH_HEIGHT = 8
FIGURE_HEIGHT = 4
"""In rows of the grid, of about 38 pixels."""


def board(
    uid: str, title: str, about: str, *, since: str, rows: Mapping[str, Sequence[Panel]]
) -> dashboard.Dashboard:
    """A dashboard with a choice of the data source. `since`: as in `now-24h`."""
    built = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags(["hearloop"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh("1m")
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
    )
    for heading, panels in rows.items():
        built.with_row(dashboard.Row(heading))
        for panel in panels:
            built.with_panel(panel)
    return built


def graph(title: str, unit: str, about: str, queries: Mapping[str, str]) -> timeseries.Panel:
    """Lines over time, half a screen wide.

    `unit`: Grafana's name of it, as in `s` or `percentunit`. `queries`: PromQL by legend, in which
    `{{label}}` is the label's value.
    """
    panel = timeseries.Panel().title(title).description(about).unit(unit).datasource(SOURCE)
    panel.span(COLUMNS // 2).height(GRAPH_HEIGHT).fill_opacity(5).axis_soft_min(0)
    for legend, query in queries.items():
        panel.with_target(prometheus.Dataquery().expr(query).legend_format(legend).range())
    return panel


def figure(
    title: str, unit: str, about: str, query: str, *, bad_from: float | None = None
) -> stat.Panel:
    """One number of now, a quarter of the screen wide; red from `bad_from` on."""
    steps = [Threshold(value=None, color="green")]
    if bad_from is not None:
        steps.append(Threshold(value=bad_from, color="red"))
    panel = stat.Panel().title(title).description(about).unit(unit).datasource(SOURCE)
    panel.span(COLUMNS // 4).height(FIGURE_HEIGHT).color_mode(BigValueColorMode.VALUE)
    panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    return panel.with_target(prometheus.Dataquery().expr(query).instant())
