import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.errors import ServiceUnavailable
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from serving import versions as module
from serving.versions import Versions

CANARY = Traffic(stable="1", canary="2", canary_percent=10)


@pytest.fixture
def versions(recognisers: dict[str, Recogniser]) -> Versions:
    versions = Versions()
    versions.swap(Traffic(stable="1"), recognisers)
    return versions


def version_of(versions: Versions, call: str) -> str:
    session, _ = versions.choose(call, "request")
    return session.version


def test_without_a_model_it_says_so() -> None:
    with pytest.raises(ServiceUnavailable, match="No model is in service yet"):
        Versions().choose("call", "request")


def test_new_calls_are_split_as_the_traffic_says(
    versions: Versions, recognisers: dict[str, Recogniser]
) -> None:
    for percent in (10, 50):
        versions.swap(Traffic(stable="1", canary="2", canary_percent=percent), recognisers)
        drawn = Counter(version_of(versions, f"{percent}-{n}") for n in range(4000))
        assert drawn["2"] / 40 == pytest.approx(percent, abs=2.5)


def test_requests_without_a_call_are_split_too(
    versions: Versions, recognisers: dict[str, Recogniser]
) -> None:
    versions.swap(CANARY, recognisers)
    drawn = Counter(versions.choose(None, f"request-{n}")[0].version for n in range(4000))
    assert drawn["2"] / 40 == pytest.approx(10, abs=2)


def test_a_call_stays_on_its_version_through_shift_and_promotion(
    versions: Versions, recognisers: dict[str, Recogniser]
) -> None:
    calls = [f"call-{n}" for n in range(200)]
    versions.swap(CANARY, recognisers)
    began = [version_of(versions, call) for call in calls]
    assert set(began) == {"1", "2"}
    for traffic in (Traffic(stable="1", canary="2", canary_percent=50), Traffic(stable="2")):
        versions.swap(traffic, recognisers)
        assert [version_of(versions, call) for call in calls] == began
        assert [versions.choose(call, "")[1] for call in calls] == [recognisers[v] for v in began]
    assert version_of(versions, "new") == "2"


def test_rollback_takes_every_call_off_the_canary(
    versions: Versions, recognisers: dict[str, Recogniser]
) -> None:
    versions.swap(CANARY, recognisers)
    calls = [f"call-{n}" for n in range(200)]
    assert "2" in {version_of(versions, call) for call in calls}
    versions.swap(Traffic(stable="1"), recognisers)
    assert {version_of(versions, call) for call in calls} == {"1"}
    assert set(versions.held()) == {"1"}


def test_a_call_that_fell_silent_begins_anew(recognisers: dict[str, Recogniser]) -> None:
    now = 0.0
    versions = Versions(clock=lambda: now)
    versions.swap(Traffic(stable="1"), recognisers)
    assert version_of(versions, "call") == "1"
    versions.swap(Traffic(stable="2"), recognisers)
    now = 899.0
    assert version_of(versions, "call") == "1"
    now += 900.0
    assert version_of(versions, "call") == "2"


def test_calls_are_forgotten_oldest_first(
    versions: Versions, recognisers: dict[str, Recogniser], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SESSIONS", 2)
    for call in ("a", "b", "a", "c"):
        version_of(versions, call)
    versions.swap(Traffic(stable="2"), recognisers)
    assert [version_of(versions, call) for call in ("a", "c", "b")] == ["1", "1", "2"]


def test_tallies_count_requests_and_the_calls_that_began_since_the_change(
    versions: Versions, recognisers: dict[str, Recogniser]
) -> None:
    versions.count(versions.choose("old", "")[0], "answered", 0.1)
    versions.swap(CANARY, recognisers)
    assert versions.reading().tallies == {}
    old, _ = versions.choose("old", "")
    versions.count(old, "failed", 0.1)
    counts: Counter[str] = Counter()
    for n in range(100):
        session, _ = versions.choose(f"new-{n}", "")
        counts[session.version] += 1
        for outcome in ("answered", "failed", "empty", "failed"):
            versions.count(session, outcome, 0.1)  # type: ignore[arg-type]
    reading = versions.reading()
    assert reading.traffic == CANARY
    for version in ("1", "2"):
        tally, calls = reading.tallies[version], counts[version]
        from_old = int(version == "1")
        assert (tally.calls, tally.failed_calls, tally.empty_calls) == (calls, calls, calls)
        assert (tally.requests, tally.failures) == (4 * calls + from_old, 2 * calls + from_old)
        assert tally.empty == calls


def test_setting_the_same_traffic_again_keeps_the_evidence(
    versions: Versions, recognisers: dict[str, Recogniser]
) -> None:
    versions.count(versions.choose("call", "")[0], "answered", 0.1)
    before = versions.reading()
    versions.swap(Traffic(stable="1"), recognisers)
    assert versions.reading() == before


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.floats(0.0011, 10.0), min_size=1, max_size=200))
def test_latency_quantiles_are_right_within_a_bucket(
    recognisers: dict[str, Recogniser], seconds: list[float]
) -> None:
    versions = Versions()
    versions.swap(Traffic(stable="1"), recognisers)
    for n, latency in enumerate(seconds):
        versions.count(versions.choose(None, str(n))[0], "answered", latency)
    tally = versions.reading().tallies["1"]
    ordered = [latency * 1000 for latency in seconds]
    for share, found in ((0.5, tally.p50_ms), (0.95, tally.p95_ms)):
        assert found is not None
        exact = float(np.quantile(ordered, share, method="inverted_cdf"))
        assert exact * 0.99 - 0.1 <= found <= exact * 1.11 + 0.1


def test_swapping_under_load_gives_every_request_a_recogniser(
    versions: Versions, recognisers: dict[str, Recogniser]
) -> None:
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for traffic in (CANARY, Traffic(stable="2"), Traffic(stable="1")):
                versions.swap(traffic, recognisers)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for n in range(5000):
            session, recogniser = versions.choose(f"call-{n % 50}", str(n))
            assert recogniser is recognisers[session.version]
    finally:
        stop.set()
        swapper.join()
