"""The names and buckets that alert rules and dashboards rely on."""

import pytest
from prometheus_client import REGISTRY, Histogram

from serving import metrics


def buckets(histogram: Histogram) -> list[str]:
    (family,) = histogram.collect()
    return [sample.labels["le"] for sample in family.samples if sample.name.endswith("_bucket")]


@pytest.mark.parametrize(
    ("sample", "labels"),
    [
        ("hearloop_live_streams", {}),
        ("hearloop_queue_length", {}),
        ("hearloop_empty_results_total", {}),
        *(("hearloop_refusals_total", {"reason": each}) for each in metrics.REFUSAL_REASONS),
        ("hearloop_time_to_first_word_seconds_count", {}),
        ("hearloop_partial_latency_seconds_count", {}),
        ("hearloop_final_latency_seconds_count", {}),
        ("hearloop_real_time_factor_count", {}),
    ],
)
def test_is_there_before_the_first_event(sample: str, labels: dict[str, str]) -> None:
    assert REGISTRY.get_sample_value(sample, labels) is not None


def test_objectives_lie_on_bounds_of_buckets() -> None:
    assert "1.5" in buckets(metrics.TIME_TO_FIRST_WORD)
    assert "0.3" in buckets(metrics.PARTIAL_LATENCY)


def test_our_fault_is_among_the_reasons() -> None:
    assert set(metrics.OUR_FAULT) < set(metrics.REFUSAL_REASONS)
