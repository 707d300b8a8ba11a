"""Speech quality and drift: for whoever trains the model."""

from monitoring.dashboards.panels import board, figure, graph
from monitoring.dashboards.queries import per_second

__all__ = ["BOARD"]

HEARD = 'hearloop_requests_total{outcome=~"answered|empty"}'
EMPTY = 'hearloop_requests_total{outcome="empty"}'
OLDEST = "max(hearloop_oldest_unreviewed_correction_age_seconds)"

DAY_SECONDS = 86_400

NOW = [
    figure(
        "Shift alarm",
        "bool_yes_no",
        "Whether the speech differs from what the champion was judged on.",
        "max(hearloop_monitor_shift)",
        bad_from=1,
    ),
    figure(
        "Word error rate, at least",
        "percentunit",
        "Lower bound on corrected calls; harm begins above the limit.",
        'max(hearloop_monitor_wer_ratio{figure="lower"})',
    ),
    figure(
        "Oldest unreviewed correction",
        "s",
        "Objective: no more than a day, 95 % of the time.",
        OLDEST,
        bad_from=DAY_SECONDS,
    ),
    figure(
        "Empty results, last hour",
        "percentunit",
        "Utterances in which no word was heard.",
        f"{per_second(EMPTY, over='1h')} / {per_second(HEARD, over='1h')}",
    ),
]

HARM = [
    graph(
        "Word error rate on corrected calls",
        "percentunit",
        "Bounds of a confidence sequence, the champion's reference, and the limit: harm is a "
        "lower bound above the limit.",
        {"{{figure}}": "max by (figure) (hearloop_monitor_wer_ratio)"},
    ),
    graph(
        "Empty results by version",
        "percentunit",
        "A version that hears nothing where the other hears words is worse.",
        {"version {{version}}": f"{per_second(EMPTY, 'version')} / {per_second(HEARD, 'version')}"},
    ),
]

SHIFT = [
    graph(
        "Detector",
        "percentunit",
        "The detector's statistic as a share of its threshold: an alarm at 100 %.",
        {"statistic": "max(hearloop_monitor_statistic_ratio)"},
    ),
    graph(
        "Signals",
        "percentunit",
        "Each signal's part of the statistic: what has changed.",
        {"{{signal}}": "max by (signal) (hearloop_monitor_signal_ratio)"},
    ),
    graph(
        "Calls watched",
        "short",
        "Calls are the unit of every test; open ones may go on.",
        {
            "a minute": f"60 * {per_second('hearloop_monitor_calls_total')}",
            "open": "max(hearloop_monitor_open_calls)",
        },
    ),
    graph(
        "Events by what became of them",
        "reqps",
        "Malformed and unreadable ones are not measured; other versions not compared.",
        {"{{outcome}}": per_second("hearloop_monitor_events_total", "outcome")},
    ),
]

CORRECTIONS = [
    graph(
        "Corrections by status",
        "short",
        "Waiting ones were not ruled on yet; quarantined ones are in doubt and train nothing.",
        {"{{status}}": "max by (status) (hearloop_corrections)"},
    ),
    graph(
        "Corrected minutes since the last run",
        "short",
        "What a retrain would learn from, and what is held back.",
        {"{{status}}": "max by (status) (hearloop_monitor_corrected_minutes)"},
    ),
    graph(
        "Share of calls put up for review",
        "percentunit",
        "Raised while a shift alarm stands that no label has cleared.",
        {"share": "max(hearloop_monitor_review_share_ratio)"},
    ),
    graph(
        "Age of the oldest unreviewed correction",
        "s",
        "Since it came; 0 when none waits.",
        {"age": OLDEST},
    ),
]

BOARD = board(
    "hearloop-speech",
    "Hearloop: speech quality and drift",
    "Whether the speech has changed, whether that does harm, and what people correct.",
    since="now-7d",
    rows={"Now": NOW, "Harm": HARM, "Shift": SHIFT, "Corrections": CORRECTIONS},
)
"""Whether the speech has changed, whether that does harm, and what people correct."""
