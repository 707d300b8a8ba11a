"""The names and buckets that alert rules and dashboards rely on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY, Histogram

from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from serving import metrics
from serving import transcriber as transcriber_module
from tests.bundles import noise
from tests.unit.serving.assembled import FILE, FLAC, V2, Server, tensor

pytestmark = pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated")  # KServe uses it


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


@contextmanager
def counted(sample: str, labels: dict[str, str] | None = None) -> Iterator[None]:
    """What happens inside adds one to a counter."""
    before = REGISTRY.get_sample_value(sample, labels or {}) or 0.0
    yield
    assert REGISTRY.get_sample_value(sample, labels or {}) == before + 1.0


def test_refusals_are_counted_by_reason(serving: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted("hearloop_refusals_total", {"reason": "audio"}):
        serving.client.post(FILE, files={"file": b"no sound"})
    monkeypatch.setattr(transcriber_module, "MOST_WAITING", 0)
    with counted("hearloop_refusals_total", {"reason": "overload"}):
        serving.client.post(FILE, files={"file": FLAC})


def test_a_request_without_a_model_counts_once_whichever_way_it_came(server: Server) -> None:
    for send in (
        lambda: server.client.post(FILE, files={"file": FLAC}),
        lambda: server.client.post(V2, json=tensor()),
    ):
        with counted("hearloop_refusals_total", {"reason": "no_model"}):
            assert send().status_code == 503


def test_each_answer_is_held_against_the_length_of_its_audio(serving: Server) -> None:
    with counted("hearloop_real_time_factor_count"):
        serving.client.post(FILE, files={"file": FLAC})
    assert REGISTRY.get_sample_value("hearloop_queue_length") == 0.0


def test_an_utterance_without_a_word_counts_as_empty(
    server: Server, recognisers: dict[str, Recogniser], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.versions.swap(Traffic(stable="1"), recognisers)
    silent = recognisers["1"].transcribe(noise(0.02))
    monkeypatch.setattr(
        Recogniser, "transcribe", lambda *_, **__: replace(silent, text="", words=())
    )
    with counted("hearloop_empty_results_total"):
        serving_text = server.client.post(FILE, files={"file": FLAC}).json()["text"]
    assert serving_text == ""
