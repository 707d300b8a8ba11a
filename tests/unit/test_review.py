"""The order of the review queue, by its properties."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.review import Candidate, Place, disagreement, doubt, is_audited, lot, rank

PROPERTY = settings(deadline=None, derandomize=True, max_examples=50)

WORDS = ("pay", "the", "gas", "bill", "call", "anna", "transfer", "twenty", "pounds")
TEXTS = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)


@st.composite
def queues(draw: st.DrawFn) -> list[Candidate]:
    return [
        Candidate(
            request_id=f"r{number}",
            call=f"call-{draw(st.integers(0, 30))}",
            text=draw(TEXTS),
            confidence=draw(st.floats(0, 1)),
            plausibility=draw(st.none() | st.floats(-50, 0)),
            opinions=tuple(draw(st.lists(TEXTS, max_size=3))),
        )
        for number in range(draw(st.integers(0, 12)))
    ]


def named(places: list[Place]) -> list[str]:
    return [place.candidate.request_id for place in places]


@PROPERTY
@given(queues(), st.randoms(), st.integers(0, 30))
def test_the_queue_does_not_depend_on_the_order_in_which_it_is_read(
    queue: list[Candidate], random: object, limit: int
) -> None:
    shuffled = list(queue)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert rank(queue, limit=limit) == rank(shuffled, limit=limit)


@PROPERTY
@given(queues(), st.integers(0, 30))
def test_everybody_has_one_place_and_a_shorter_queue_is_the_head_of_a_longer_one(
    queue: list[Candidate], limit: int
) -> None:
    whole = named(rank(queue, limit=len(queue)))
    assert sorted(whole) == sorted(one.request_id for one in queue)
    assert named(rank(queue, limit=limit)) == whole[:limit]


@PROPERTY
@given(queues(), st.floats(0, 1))
def test_every_fifth_place_is_audited_while_there_are_any(
    queue: list[Candidate], share: float
) -> None:
    audited = sum(is_audited(one.call, share) for one in queue)
    places = rank(queue, limit=len(queue), audited_calls=share)
    for length in range(len(places) + 1):
        so_far = sum(place.reason == "audited" for place in places[:length])
        assert so_far >= min(audited, length // 5)


@PROPERTY
@given(queues(), st.data())
def test_who_is_audited_and_in_which_order_has_nothing_to_do_with_what_was_heard(
    queue: list[Candidate], data: st.DataObject
) -> None:
    other = [
        replace(one, text=data.draw(TEXTS), confidence=data.draw(st.floats(0, 1))) for one in queue
    ]

    def chosen(candidates: list[Candidate]) -> set[str]:
        places = rank(candidates, limit=len(candidates), audited_calls=0.3)
        return {place.candidate.request_id for place in places if place.reason == "audited"}

    assert chosen(queue) == chosen(other)


@PROPERTY
@given(queues(), st.data())
def test_less_confidence_never_moves_an_utterance_back(
    queue: list[Candidate], data: st.DataObject
) -> None:
    if not queue:
        return
    at = data.draw(st.integers(0, len(queue) - 1))
    before = named(rank(queue, limit=len(queue)))
    queue[at] = replace(queue[at], confidence=queue[at].confidence / 2)
    after = named(rank(queue, limit=len(queue)))
    assert after.index(f"r{at}") <= before.index(f"r{at}")


@PROPERTY
@given(queues())
def test_doubt_is_a_share_and_any_sign_raises_it(queue: list[Candidate]) -> None:
    for one in queue:
        assert 0.0 <= doubt(one) <= 1.0
        assert doubt(replace(one, plausibility=-3.0)) >= doubt(replace(one, plausibility=0.0))
        assert doubt(replace(one, opinions=("a", "b"))) >= doubt(replace(one, opinions=("a", "a")))


def test_the_second_of_a_kind_waits_for_something_else() -> None:
    def candidate(request_id: str, text: str, confidence: float) -> Candidate:
        return Candidate(request_id=request_id, call=request_id, text=text, confidence=confidence)

    queue = [
        candidate("a", "pay the gas bill", 0.3),
        candidate("b", "pay the gas bill", 0.35),
        candidate("c", "call anna", 0.5),
    ]
    assert named(rank(queue, limit=3, audited_calls=0.0)) == ["a", "c", "b"]


def test_the_lot_falls_on_the_share_of_calls_that_was_asked_for() -> None:
    calls = [f"call-{number}" for number in range(20_000)]
    drawn = sum(is_audited(call, 0.05) for call in calls) / len(calls)
    assert drawn == pytest.approx(0.05, abs=0.005)
    assert all(0.0 <= lot(call) < 1.0 for call in calls[:100])


def test_people_disagree_by_the_words_in_which_they_differ() -> None:
    assert disagreement(["call anna now"]) == 0.0
    assert disagreement(["call anna now", "call anne now"]) == pytest.approx(1 / 3)
