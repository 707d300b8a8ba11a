"""The store of corrections, on SQLite."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from hearloop.config import Settings
from hearloop.corrections import Correction, Evidence, ScreeningPolicy, correction_id
from hearloop.errors import NotFound
from hearloop.storage.corrections import SqlCorrectionStore
from hearloop.storage.tables import engine

ANYBODY = ScreeningPolicy(maximum_share=1.0)


def minutes(store: SqlCorrectionStore, *, after: int = 0, up_to: int | None = None) -> float:
    """What a training would get, in minutes of audio."""
    accepted = store.list(after=after, up_to=up_to, statuses=["accepted"])
    return sum(one.audio_seconds for one in accepted) / 60


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    made = engine(Settings(database_url=f"sqlite:///{tmp_path}/hearloop.db"))
    yield made
    made.dispose()


def correction(
    request: str, *, contributor: str = "ada", text: str = "pay the gas bill", support: float = 1.0
) -> Correction:
    return Correction(
        id=correction_id(request, contributor, text),
        sequence=0,
        request_id=request,
        call="call-1",
        speaker="s1",
        audio_uri=f"s3://audio/audio/{request}.flac",
        audio_seconds=3.0,
        hypothesis="pay the bill",
        model_version="3",
        text=text,
        contributor=contributor,
        received_at="2025-01-01T00:00:00.000000+00:00",
        evidence=Evidence(plausibility=-0.5, rival_plausibility=-3.0, support=support, rivals=32),
    )


def test_given_back_as_it_was_stored(database: Engine) -> None:
    store = SqlCorrectionStore(database)
    plain = replace(correction("r1"), evidence=None, speaker=None)
    for given_in, place in ((plain, 1), (correction("r2"), 2)):
        stored, new = store.add(given_in)
        assert new
        assert stored == store.get(given_in.id) == replace(given_in, sequence=place)
    assert store.last() == 2


def test_what_waits_for_review_is_counted_and_aged(database: Engine) -> None:
    store = SqlCorrectionStore(database)
    assert (store.counts(), store.oldest_unreviewed(10)) == ({}, None)
    for day, (evidence, status) in enumerate(
        [
            (None, "confirmed"),
            (Evidence(plausibility=-1, rival_plausibility=-3, support=1, rivals=10), "waiting"),
            (Evidence(plausibility=-1, rival_plausibility=-3, support=1, rivals=9), "waiting"),
            (None, "waiting"),
        ],
        start=1,
    ):
        received_at = f"2025-01-0{day}T00:00:00.000000+00:00"
        store.add(
            replace(
                correction(f"r{day}"), evidence=evidence, status=status, received_at=received_at
            )
        )
    assert store.counts() == {"confirmed": 1, "waiting": 3}
    assert store.oldest_unreviewed(10) == datetime(2025, 1, 3, tzinfo=UTC)
    assert store.oldest_unreviewed(11) == datetime(2025, 1, 2, tzinfo=UTC)


def test_what_is_not_there(database: Engine) -> None:
    store = SqlCorrectionStore(database)
    assert (store.last(), minutes(store), store.list()) == (0, 0.0, [])
    with pytest.raises(NotFound, match="'nothing'"):
        store.get("nothing")


@settings(deadline=None, derandomize=True, max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["ada", "bob"])), max_size=12),
    st.randoms(use_true_random=False),
)
def test_adding_is_idempotent_and_its_order_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, given_in: list[tuple[int, str]], random: object
) -> None:
    corrections = [correction(f"r{number}", contributor=who) for number, who in given_in]
    shuffled = [*corrections, *corrections]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    outcomes = []
    for order in (corrections, shuffled):
        folder = tmp_path_factory.mktemp("store")
        database = engine(Settings(database_url=f"sqlite:///{folder}/hearloop.db"))
        store = SqlCorrectionStore(database)
        created = [store.add(one)[1] for one in order]
        assert created.count(True) == len({one.id for one in corrections}) == store.last()
        assert [one.sequence for one in store.list()] == list(range(1, store.last() + 1))
        rulings = store.screen(policy=ANYBODY)
        outcomes.append((rulings, store.digest(), minutes(store)))
        database.dispose()
    assert outcomes[0] == outcomes[1]


def test_racing_writers_get_a_number_each(database: Engine) -> None:
    store = SqlCorrectionStore(database)
    start = threading.Barrier(8)

    def write(writer: int) -> None:
        start.wait()
        for number in range(5):
            store.add(correction(f"r{writer}-{number}"))
            store.add(correction("the-same"))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.sequence for one in store.list()] == list(range(1, 42))


def test_screening_is_kept_with_its_reason(database: Engine) -> None:
    store = SqlCorrectionStore(database)
    for number in range(4):
        store.add(correction(f"r{number}", support=0.2 if number == 3 else 1.0))
    assert minutes(store) == 0.0, "nothing counts before it has been screened"
    store.screen(policy=ANYBODY)
    assert [one.request_id for one in store.list(statuses=["accepted"])] == ["r0", "r1", "r2"]
    (doubted,) = store.list(statuses=["quarantined"])
    assert "20%" in doubted.reason
    assert minutes(store) == pytest.approx(0.15)
    assert minutes(store, after=1, up_to=2) == pytest.approx(0.05)


def test_only_the_range_is_screened(database: Engine) -> None:
    store = SqlCorrectionStore(database)
    for number in range(4):
        store.add(correction(f"r{number}"))
    store.screen(after=1, up_to=3, policy=ANYBODY)
    assert [one.status for one in store.list()] == ["waiting", "accepted", "accepted", "waiting"]


def test_the_fingerprint_tells_whether_anything_happened_to_a_range(database: Engine) -> None:
    store = SqlCorrectionStore(database)
    store.add(correction("r1", support=0.1))
    weighed = Evidence(plausibility=-0.5, rival_plausibility=-3.0, support=1.0, rivals=33)
    happenings: tuple[Callable[[], object], ...] = (
        lambda: store.add(correction("r2")),
        lambda: store.set_evidence(store.list()[0].id, weighed),
        lambda: store.screen(policy=ANYBODY),
    )
    for happen in happenings:
        before = store.fingerprint(), store.fingerprint(after=2)
        happen()
        assert store.fingerprint() != before[0]
        assert store.fingerprint(after=2) == before[1]
    unchanged = store.fingerprint()
    store.screen(policy=ANYBODY)
    store.set_published([store.list()[0].id])
    assert store.fingerprint() == unchanged


def test_digest_follows_the_accepted_ones(database: Engine) -> None:
    store = SqlCorrectionStore(database)
    empty = store.digest()
    for number in range(3):
        store.add(correction(f"r{number}", support=0.1 if number == 2 else 1.0))
    store.screen(policy=ANYBODY)
    assert store.digest() != empty
    assert store.digest(up_to=2) == store.digest()
    assert store.digest(up_to=1) != store.digest()


def test_nobody_chooses_their_own_rivals(database: Engine) -> None:
    store = SqlCorrectionStore(database)
    own = correction("r0", text="call anna")
    for one in (
        own,
        correction("r1", text="eve's own text"),
        correction("r0", contributor="bob", text="about this audio"),
        correction("r2", contributor="bob", text="call anna"),
        correction("r3", contributor="bob", text="pay my gas bill today"),
        correction("r4", contributor="bob", text="call otto"),
        correction("r5", contributor="cyd", text="call otto"),
    ):
        store.add(one)
    assert store.rivals(own, 10, each=5) == ["call otto", "pay my gas bill today"]
    assert store.rivals(own, 1, each=5) == ["call otto"]


def test_nor_has_a_friend_choose_them(database: Engine) -> None:
    store = SqlCorrectionStore(database)
    own = correction("r0", text="call anna")
    store.add(own)
    for number in range(32):
        store.add(correction(f"b{number}", contributor="bob", text=f"qxz {number:05d}"))
    for number in range(3):
        store.add(correction(f"c{number}", contributor="cyd", text=f"call otto {number}"))
    rivals = store.rivals(own, 32, each=5)
    assert sum(text.startswith("qxz") for text in rivals) == 5
    assert sum(text.startswith("call otto") for text in rivals) == 3


def test_what_is_quarantined_is_nobody_s_rival(database: Engine) -> None:
    store = SqlCorrectionStore(database)
    own = correction("r0", text="call anna")
    for one in (own, correction("r1", contributor="bob", text="call otto", support=0.1)):
        store.add(one)
    assert store.rivals(own, 10, each=5) == ["call otto"]
    store.screen(policy=ANYBODY)
    assert store.rivals(own, 10, each=5) == []


def test_waiting_for_evidence_and_for_the_event_log(database: Engine) -> None:
    store = SqlCorrectionStore(database)
    waiting = [replace(correction(f"r{n}"), evidence=None) for n in range(3)]
    confirmed = replace(correction("r9", text="pay the bill"), evidence=None)
    for one in (*waiting, confirmed):
        store.add(one)
    assert [one.id for one in store.unweighed(32, 2)] == [one.id for one in waiting[:2]]
    assert [one.id for one in store.unweighed(32, 9, besides=[waiting[0].id])] == [
        one.id for one in waiting[1:]
    ]
    found = Evidence(plausibility=-0.1, rival_plausibility=-4.0, support=1.0, rivals=12)
    store.set_evidence(waiting[0].id, found)
    assert store.get(waiting[0].id).evidence == found
    assert [one.id for one in store.unweighed(32, 9)] == [
        one.id for one in (*waiting[1:], waiting[0])
    ]
    assert waiting[0].id not in {one.id for one in store.unweighed(12, 9)}
    assert len(store.unpublished(9)) == 4
    store.set_published([waiting[0].id, confirmed.id])
    assert [one.id for one in store.unpublished(9)] == [one.id for one in waiting[1:]]
