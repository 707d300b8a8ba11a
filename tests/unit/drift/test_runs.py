import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hearloop.drift.runs import Run, Runs
from hearloop.errors import IntegrityError
from hearloop.testing import InMemoryObjects

RUN = Run(
    epoch=0,
    run_id="retrain-1",
    base="1",
    reason="harm",
    after=0,
    up_to=10,
    corrections=8,
    recipe="{}",
    claimed_at="2025-01-31T12:00:00+00:00",
)


def test_one_of_many_claims_an_epoch() -> None:
    objects = InMemoryObjects()
    won = []

    def claim(number: int) -> None:
        if Runs(objects, "bucket").claim(replace(RUN, run_id=f"retrain-{number}")):
            won.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert [run.run_id for run in Runs(objects, "bucket").all()] == [f"retrain-{won[0]}"]


def test_runs_are_listed_in_order_with_their_ends() -> None:
    runs = Runs(InMemoryObjects(), "bucket")
    assert runs.all() == []
    later = replace(RUN, epoch=11, run_id="retrain-2")
    assert runs.claim(later)
    assert runs.claim(RUN)
    assert runs.end(RUN, "failed")
    assert not runs.end(RUN, "promoted")
    for _ in range(2):
        assert runs.all() == [replace(RUN, ended="failed"), later]


def test_a_clock_that_is_ahead_makes_no_negative_time() -> None:
    assert RUN.hours_since(datetime(2025, 1, 31, 14, 30, tzinfo=UTC)) == 2.5
    assert RUN.hours_since(datetime(2025, 1, 31, 11, tzinfo=UTC)) == 0.0


def test_a_damaged_record_is_named() -> None:
    objects = InMemoryObjects()
    objects.put("s3://bucket/monitor/runs/00000000.json", b'{"epoch": 0}')
    with pytest.raises(IntegrityError, match=r"00000000\.json"):
        Runs(objects, "bucket").all()
