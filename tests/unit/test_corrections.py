"""Screening, on corrections whose evidence is drawn as the permutation test says it falls."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.corrections import (
    Correction,
    Evidence,
    ScreeningPolicy,
    contributor_support,
    correct,
    correction_id,
    screen,
    weigh,
)
from hearloop.errors import InvalidTranscript
from hearloop.events import Transcription

TRANSCRIPTION = Transcription(
    event_id="e",
    request_id="r1",
    call="call-1",
    speaker=None,
    model_version="3",
    audio_uri="s3://audio/audio/1.flac",
    audio_seconds=2.0,
    text="pay the bill",
    confidence=0.9,
    words=3,
    received_at="2025-01-01T00:00:00+00:00",
)


def evidence(support: float, rivals: int = 32) -> Evidence:
    return Evidence(plausibility=-0.5, rival_plausibility=-3.0, support=support, rivals=rivals)


def correction(
    number: int,
    *,
    contributor: str = "ada",
    text: str = "pay the gas bill",
    audio: int | None = None,
    call: int | None = None,
    support: float | None = 1.0,
    seconds: float = 2.0,
) -> Correction:
    return Correction(
        id=correction_id(f"r{number}", contributor, text),
        sequence=number,
        request_id=f"r{number}",
        call=f"call-{number if call is None else call}",
        speaker=None,
        audio_uri=f"s3://audio/audio/{number if audio is None else audio}.flac",
        audio_seconds=seconds,
        hypothesis="pay the bill",
        model_version="3",
        text=text,
        contributor=contributor,
        received_at=f"2025-01-01T00:00:{number:09.6f}+00:00",
        evidence=None if support is None else evidence(support),
    )


def team(per_contributor: int = 10, contributors: int = 6) -> list[Correction]:
    """Clean corrections, evenly from several contributors, four to a call."""
    return [
        correction(
            number, contributor=f"c{number % contributors}", call=number // (4 * contributors)
        )
        for number in range(per_contributor * contributors)
    ]


def statuses(corrections: list[Correction], policy: ScreeningPolicy | None = None) -> list[str]:
    rulings = screen(corrections, policy)
    return [rulings[one.id].status for one in corrections]


def test_what_was_said_beats_its_rivals() -> None:
    assert weigh(-0.2, [-3.0, -0.2, -2.0, 0.0]) == Evidence(
        plausibility=-0.2, rival_plausibility=-1.3, support=0.625, rivals=4
    )


def test_text_is_normalised_and_what_cannot_be_is_refused() -> None:
    given_text = correct(
        TRANSCRIPTION, text="  Pay the GAS bill!", contributor="ada", received_at="2025"
    )
    assert (given_text.text, given_text.status) == ("pay the gas bill", "waiting")
    other = correct(
        TRANSCRIPTION, text="È qui, 2!", contributor="ada", received_at="2025", language="it"
    )
    assert other.text == "è qui due"
    with pytest.raises(InvalidTranscript):
        correct(TRANSCRIPTION, text="...", contributor="ada", received_at="2025")
    with pytest.raises(InvalidTranscript, match="2001"):
        correct(TRANSCRIPTION, text="a" * 2001, contributor="ada", received_at="2025")


def test_untouched_hypothesis_is_confirmed() -> None:
    untouched = correct(TRANSCRIPTION, text="Pay the bill.", contributor="ada", received_at="2025")
    assert untouched.status == "confirmed"
    assert statuses([untouched]) == ["confirmed"]


def test_clean_team_passes() -> None:
    assert set(statuses(team())) == {"accepted"}


@pytest.mark.parametrize("clean_miss", [0.0, 0.05])
def test_permuted_transcripts_are_stopped_and_clean_ones_pass(clean_miss: float) -> None:
    """Supports of wrong texts are uniform; `clean_miss` of the right ones lose at random too."""
    rng = np.random.default_rng(0)
    passed_clean, passed_wrong, runs = 0.0, 0.0, 200
    for _ in range(runs):
        clean = [
            replace(one, evidence=evidence(rng.uniform() if rng.uniform() < clean_miss else 1.0))
            for one in team(20, 8)
        ]
        wrong = [
            correction(1000 + n, contributor="eve", call=1000 + n // 4, support=rng.uniform())
            for n in range(40)
        ]
        found = statuses(clean + wrong)
        passed_clean += found[: len(clean)].count("accepted") / len(clean)
        passed_wrong += found[len(clean) :].count("accepted") / len(wrong)
    assert passed_clean / runs > 0.94
    assert passed_wrong / runs < 0.001


def test_one_wrong_text_is_quarantined_alone() -> None:
    corrections = team()
    corrections[7] = replace(corrections[7], evidence=evidence(0.4))
    rulings = screen(corrections)
    assert rulings[corrections[7].id].status == "quarantined"
    assert "40%" in rulings[corrections[7].id].reason
    assert [r.status for r in rulings.values()].count("accepted") == len(corrections) - 1


def test_suspect_loses_also_what_looks_right() -> None:
    calls = [(1.0, 0.2)] * 4
    eve = [
        correction(100 + 2 * call + n, contributor="eve", call=100 + call, support=pair[n])
        for call, pair in enumerate(calls)
        for n in range(2)
    ]
    rulings = screen(team() + eve)
    assert {rulings[one.id].status for one in eve} == {"quarantined"}
    assert all("contributor eve" in rulings[one.id].reason for one in eve)


def test_a_bad_line_does_not_make_a_suspect() -> None:
    """Ten utterances of one call are one block."""
    bad = [correction(100 + n, contributor="ada", call=100, support=0.3) for n in range(10)]
    good = [correction(200 + n, contributor="ada", call=200 + n) for n in range(5)]
    rulings = screen(team() + bad + good)
    assert {rulings[one.id].status for one in good} == {"accepted"}
    assert contributor_support(bad + good)["ada"] == pytest.approx(
        {"call-100": 0.3} | {f"call-{200 + n}": 1.0 for n in range(5)}
    )


def test_without_enough_rivals_it_waits() -> None:
    few = replace(correction(90, contributor="new"), evidence=evidence(1.0, rivals=9))
    assert statuses([*team(), few])[-1] == "waiting"
    assert statuses([*team(), replace(few, evidence=None)])[-1] == "waiting"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "pay the gas bill"), (60.0, "yes"), (0.0, "yes")]
)
def test_length_must_fit_the_audio(seconds: float, text: str) -> None:
    odd = correction(90, contributor="new", seconds=seconds, text=text)
    rulings = screen([*team(), odd])
    assert rulings[odd.id].status == "quarantined"
    assert "characters per second" in rulings[odd.id].reason


def test_majority_settles_a_disagreement() -> None:
    first = correction(80, contributor="ada", text="pay the gas bill", audio=80)
    other = correction(81, contributor="bob", text="say the gas bill", audio=80)
    assert statuses([*team(), first, other])[-2:] == ["quarantined", "quarantined"]
    third = correction(82, contributor="cyd", text="pay the gas bill", audio=80)
    assert statuses([*team(), first, other, third])[-3:] == ["accepted", "quarantined", "rejected"]


def test_what_the_audio_refutes_has_no_vote() -> None:
    true = correction(80, contributor="ada", audio=80)
    wrong = correction(81, contributor="eve", text="call anna", audio=80, support=0.1)
    assert statuses([*team(), true, wrong])[-2:] == ["accepted", "quarantined"]


def test_confirmation_yields_to_a_correction() -> None:
    confirmed = correction(80, contributor="bob", text="pay the bill", audio=80)
    corrected = correction(81, contributor="ada", audio=80)
    assert statuses([*team(), confirmed, corrected])[-2:] == ["quarantined", "accepted"]


def test_second_thoughts_of_one_contributor_stand() -> None:
    first = correction(80, text="pay the glass bill", audio=80)
    second = correction(81, text="pay the gas bill", audio=80)
    assert statuses([*team(), first, second])[-2:] == ["rejected", "accepted"]


def test_nobody_trains_the_model_alone() -> None:
    alone = [correction(n) for n in range(20)]
    assert set(statuses(alone)) == {"quarantined"}
    assert set(statuses(alone, ScreeningPolicy(maximum_share=1.0))) == {"accepted"}


CORRECTIONS = st.lists(
    st.builds(
        correction,
        st.integers(0, 10_000),
        contributor=st.sampled_from(["ada", "bob", "cyd", "dee", "eve"]),
        text=st.sampled_from(["pay the bill", "pay the gas bill", "call anna now"]),
        audio=st.integers(0, 40),
        call=st.integers(0, 8),
        support=st.none() | st.floats(0, 1),
        seconds=st.floats(0, 10),
    ),
    max_size=60,
    unique_by=lambda one: one.id,
)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(CORRECTIONS, st.randoms(use_true_random=False))
def test_properties_of_screening(corrections: list[Correction], random: object) -> None:
    rulings = screen(corrections)
    shuffled = list(corrections)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert screen(shuffled) == rulings, "the order of arrival must not matter"
    assert rulings.keys() == {one.id for one in corrections}

    accepted = [one for one in corrections if rulings[one.id].status == "accepted"]
    assert all(one.text != one.hypothesis for one in accepted), "a confirmation never counts"
    assert len({one.audio_uri for one in accepted}) == len(accepted), "an audio trains once"
    total = sum(one.audio_seconds for one in accepted)
    for contributor in {one.contributor for one in accepted}:
        own = sum(one.audio_seconds for one in accepted if one.contributor == contributor)
        assert own <= 0.4 * total + 1e-6
    assert all(
        bool(ruling.reason) == (ruling.status not in ("accepted", "confirmed"))
        for ruling in rulings.values()
    )
