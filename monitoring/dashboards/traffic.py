"""Traffic and latency: for whoever is woken at night."""

from monitoring.dashboards.panels import Panel, board, figure, graph
from monitoring.dashboards.queries import per_second, quantile

__all__ = ["BOARD"]

DEALT_WITH = 'hearloop_requests_total{outcome!="refused"}'
FAILED = 'hearloop_requests_total{outcome="failed"}'

NOW = [
    figure(
        "Not answered, last hour",
        "percentunit",
        "Failed, or refused for overload or want of a model. Objective: 0.1 % in 30 days.",
        'hearloop:slo_errors:ratio_rate1h{slo="availability"}',
        bad_from=0.001,
    ),
    figure(
        "First word late, last hour",
        "percentunit",
        "Streams that waited longer than 1.5 s. Objective: 1 % in 30 days.",
        'hearloop:slo_errors:ratio_rate1h{slo="first_word"}',
        bad_from=0.01,
    ),
    figure(
        "Live streams",
        "short",
        "Streams and calls that are open now: what replicas are scaled by.",
        "sum(hearloop_live_streams)",
    ),
    figure("Servers with a model", "short", "Model servers that can answer.", "sum(hearloop_live)"),
]

TRAFFIC = [
    graph(
        "Utterances by outcome",
        "reqps",
        "Answered, empty (no word was heard), failed (our fault), refused (theirs).",
        {"{{outcome}}": per_second("hearloop_requests_total", "outcome")},
    ),
    graph(
        "Utterances by version",
        "reqps",
        "While a rollout lasts, two versions share the calls.",
        {"version {{version}}": per_second(DEALT_WITH, "version")},
    ),
    graph(
        "Refusals by reason",
        "reqps",
        "overload and no_model are our fault; the others tell of what callers send.",
        {"{{reason}}": per_second("hearloop_refusals_total", "reason")},
    ),
    graph(
        "Failures by version",
        "percentunit",
        "Share of a version's utterances on which it failed.",
        {
            "version {{version}}": f"{per_second(FAILED, 'version')}"
            f" / {per_second(DEALT_WITH, 'version')}"
        },
    ),
]


def _band(title: str, unit: str, signal: str) -> Panel:
    return graph(
        title,
        unit,
        "Now, and the band of the same hour of the last four weeks.",
        {
            name: f'hearloop:signal:{name}{{signal="{signal}"}}'
            for name in ("now", "mean", "upper", "lower")
        },
    )


USUAL = [
    _band("Utterances", "reqps", "traffic"),
    _band("Empty results", "percentunit", "empty_results"),
    _band("Answers, p95", "s", "latency"),
    _band("Partial results, p95", "s", "partial_latency"),
]


def _quantiles(title: str, about: str, histogram: str) -> Panel:
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return graph(
        title, "s", about, {name: quantile(share, histogram) for name, share in shares.items()}
    )


LATENCY = [
    _quantiles(
        "First word of a stream",
        "From the first speech that arrived to the first partial result with a word.",
        "hearloop_time_to_first_word_seconds",
    ),
    _quantiles(
        "Partial results",
        "From the last sample of a chunk to the partial result that covers it.",
        "hearloop_partial_latency_seconds",
    ),
    _quantiles(
        "Final results",
        "From the end of an utterance to its final result.",
        "hearloop_final_latency_seconds",
    ),
    graph(
        "Words taken back",
        "percentunit",
        "Words that partial results showed and later ones replaced, to the words that stayed.",
        {
            "share": f"{per_second('hearloop_revised_words_total')}"
            f" / {per_second('hearloop_final_words_total')}"
        },
    ),
    graph(
        "Phrases of callers",
        "reqps",
        "Questions to the online store; late ones are answered without their phrases.",
        {"{{outcome}}": per_second("hearloop_phrases_total", "outcome")},
    ),
    _quantiles(
        "Answers to files",
        "From the arrival of a recording to its transcript.",
        "hearloop_latency_seconds",
    ),
]

REPLICAS = [
    graph(
        "Live streams by replica",
        "short",
        "And what the autoscaler sees of all of them.",
        {
            "{{pod}}": "sum by (pod) (hearloop_live_streams)",
            "for the autoscaler of {{scaledObject}}": "sum by (scaledObject) "
            '(keda_scaler_metrics_value{exported_namespace="hearloop", metric=~"s0-.*"})',
        },
    ),
    graph(
        "What waits",
        "short",
        "Utterances and chunks that wait for the recogniser, and answers for the log.",
        {
            "for the recogniser, {{pod}}": "sum by (pod) (hearloop_queue_length)",
            "for the log, {{pod}}": "sum by (pod) (hearloop_request_log_waiting)",
        },
    ),
    graph(
        "Calls through Kafka that wait",
        "short",
        "Pieces of audio that no member has read; transcripts are late by what they last.",
        {"{{pod}}": "sum by (pod) (hearloop_unread_pieces)"},
    ),
    graph(
        "Real-time factor",
        "none",
        "Seconds of recognition for a second of audio; near 1, the processors are full.",
        {"p95": quantile(0.95, "hearloop_real_time_factor")},
    ),
    graph(
        "Answers not logged",
        "short",
        "The monitor does not see them and nobody can correct them.",
        {
            "{{reason}}": "sum by (reason) "
            "(increase(hearloop_request_log_dropped_total[$__rate_interval]))"
        },
    ),
]

BOARD = board(
    "hearloop-traffic",
    "Hearloop: traffic and latency",
    "What callers send, what they get and how fast.",
    since="now-6h",
    rows={
        "Now": NOW,
        "Traffic": TRAFFIC,
        "Usual for this hour of the week?": USUAL,
        "Latency": LATENCY,
        "Replicas": REPLICAS,
    },
)
"""What callers send, what they get, how fast, and on how many replicas."""
