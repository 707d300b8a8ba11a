from dataclasses import replace

import numpy as np
import pytest

from hearloop.errors import InvalidInput
from hearloop.gate import Check, Verdict, gate
from hearloop.recipe import GatePolicy
from hearloop.resampling import bootstrap
from hearloop.scores import CHALLENGER, CHAMPION, GOLDEN, NEW, Evaluation, difference
from hearloop.scoring import Edit
from tests.unit.judged import WORDS, errors, evaluation, forgetting, judged_set

POLICY = GatePolicy(resamples=1000)

OLD, WORSE, BETTER = errors(0.04), errors(0.60, seed=1), errors(0.14, seed=2)


def adapted(**changes: object) -> Evaluation:
    """A challenger that learnt the new calls and forgot nothing."""
    return evaluation(judged_set(OLD, OLD), judged_set(WORSE, BETTER), **changes)


def check(verdict: Verdict, name: str) -> Check:
    (found,) = [one for one in verdict.checks if one.name == name]
    return found


def test_a_better_challenger_passes() -> None:
    verdict = gate(adapted(), POLICY)
    assert verdict.outcome == "pass"
    better = check(verdict, "WER better on the new set")
    assert better.high is not None
    assert better.high < -0.4
    assert better.champion == pytest.approx(WORSE.mean() / WORDS)
    assert better.blocks == 40


def test_the_verdict_is_a_pure_function() -> None:
    assert gate(adapted(), POLICY) == gate(adapted(), POLICY)


def test_a_challenger_that_forgot_is_rejected() -> None:
    forgot = judged_set(OLD, forgetting(OLD, 0.08))
    verdict = gate(evaluation(forgot, judged_set(WORSE, BETTER)), POLICY)
    assert verdict.outcome == "reject"
    assert "golden" in verdict.reason


def test_a_challenger_that_learnt_nothing_is_rejected() -> None:
    same = judged_set(WORSE, WORSE)
    verdict = gate(evaluation(judged_set(OLD, OLD), same), POLICY)
    assert verdict.outcome == "reject"
    assert check(verdict, "WER better on the new set").outcome == "reject"


def test_a_gain_that_is_sure_and_too_small_is_rejected() -> None:
    champion = errors(0.3, utterances=200)
    challenger = champion.copy()
    challenger[:, ::20] = np.maximum(champion[:, ::20] - 1, 0)  # every 200th word: half a point
    verdict = gate(evaluation(judged_set(OLD, OLD), judged_set(champion, challenger)), POLICY)
    found = check(verdict, "WER better on the new set")
    assert found.low is not None
    assert found.high is not None
    assert -POLICY.worthwhile_gain < found.low < found.high < 0
    assert found.outcome == "reject"
    assert "a rollout is worth 1.00 points or more" in found.reason


def test_a_small_gain_among_noise_is_inconclusive_and_says_what_could_be_seen() -> None:
    champion = errors(0.3, speakers=12, utterances=8)
    challenger = errors(0.29, speakers=12, utterances=8, seed=5)
    verdict = gate(evaluation(judged_set(OLD, OLD), judged_set(champion, challenger)), POLICY)
    assert verdict.outcome == "inconclusive"
    doubtful = check(verdict, "WER better on the new set")
    assert doubtful.minimum_detectable is not None
    assert doubtful.minimum_detectable > 0.02
    assert f"{100 * doubtful.minimum_detectable:.2f} points" in verdict.reason


@pytest.mark.parametrize("name", [GOLDEN, NEW])
def test_too_few_speakers_are_inconclusive_however_clear_the_figures(name: str) -> None:
    few = {
        GOLDEN: judged_set(OLD[:9], OLD[:9]),
        NEW: judged_set(WORSE[:9], BETTER[:9]),
    }[name]
    sets = {GOLDEN: judged_set(OLD, OLD), NEW: judged_set(WORSE, BETTER)} | {name: few}
    verdict = gate(evaluation(sets[GOLDEN], sets[NEW]), POLICY)
    assert verdict.outcome == "inconclusive"
    assert "9 speakers" in verdict.reason


def test_models_that_never_differ_on_few_words_are_not_shown_to_be_equal() -> None:
    few_words = OLD[:12, :1] * 0
    verdict = gate(evaluation(judged_set(few_words, few_words), judged_set(WORSE, BETTER)), POLICY)
    assert verdict.outcome == "inconclusive"


def test_a_set_that_is_missing_is_inconclusive() -> None:
    full = adapted()
    without = Evaluation(models=full.models, sets={NEW: full.sets[NEW]}, clips=full.clips)
    verdict = gate(without, POLICY)
    assert verdict.outcome == "inconclusive"
    assert "nothing was measured" in verdict.reason


def test_a_first_model_is_unjudged() -> None:
    full = adapted()
    first = Evaluation(models={CHALLENGER: full.models[CHALLENGER]}, sets={}, clips=())
    assert gate(first, POLICY) == Verdict(
        outcome="unjudged", reason="There is no champion to compare with."
    )
    assert gate(full, GatePolicy(compare=False)).outcome == "unjudged"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"real_time_factor": 0.11}, "real-time factor"),
        ({"real_time_factor": float("nan")}, "real-time factor"),
        ({"size_bytes": 64_000_001}, "size"),
        ({"agreement": 0.98}, "exported and trained model agree"),
        ({"agreement": float("nan")}, "exported and trained model agree"),
        ({"heard": {CHAMPION: "", CHALLENGER: "yes"}}, "words invented without speech"),
    ],
)
def test_a_limit_exceeded_rejects(changes: dict[str, object], name: str) -> None:
    verdict = gate(adapted(**changes), POLICY)
    assert verdict.outcome == "reject"
    assert [one.name for one in verdict.checks if one.outcome == "reject"] == [name]


def test_agreement_that_nobody_measured_is_inconclusive() -> None:
    assert gate(adapted(agreement=None), POLICY).outcome == "inconclusive"


def test_a_champion_that_invents_words_does_not_excuse_many_more() -> None:
    heard = {CHAMPION: "yes", CHALLENGER: "yes"}
    assert gate(adapted(heard=heard), POLICY).outcome == "pass"
    heard = {CHAMPION: "yes", CHALLENGER: "yes no"}
    assert gate(adapted(heard=heard), POLICY).outcome == "reject"


def test_a_word_more_than_a_champion_that_invents_words_too_is_chance() -> None:
    full = adapted(heard={CHAMPION: "yes", CHALLENGER: "yes"})
    (one,) = {clip.kind: clip for clip in full.clips}.values()
    once = replace(one, heard={CHAMPION: "yes", CHALLENGER: "yes no"})
    assert gate(replace(full, clips=(*full.clips[:-1], once)), POLICY).outcome == "pass"


def test_harm_in_one_slice_rejects_though_the_whole_set_stands() -> None:
    challenger = OLD.copy()
    harmed = np.arange(40) % 3 == 0
    challenger[harmed] = forgetting(OLD[harmed], 0.03)
    challenger[~harmed] = np.maximum(OLD[~harmed] - 1, 0)
    verdict = gate(evaluation(judged_set(OLD, challenger), judged_set(WORSE, BETTER)), POLICY)
    assert check(verdict, "WER no worse on the golden set").outcome == "pass"
    assert check(verdict, "WER no worse on the golden set, accent en-us").outcome == "reject"
    assert verdict.outcome == "reject"


def test_a_slice_without_power_is_in_doubt_and_not_needed() -> None:
    champion, challenger = OLD[:, :6], errors(0.04, utterances=6, seed=7)
    golden = judged_set(champion, challenger)
    verdict = gate(evaluation(golden, judged_set(WORSE, BETTER)), GatePolicy(golden_margin=0.02))
    unsure = [one for one in verdict.checks if "golden set, accent" in one.name]
    assert [one.outcome for one in unsure] == ["inconclusive"] * 3
    assert not any(one.needed for one in unsure)
    assert all(one.minimum_detectable and one.minimum_detectable > 0.02 for one in unsure)
    assert verdict.outcome == "pass"


def test_powered_slices_pass_by_holm() -> None:
    verdict = gate(adapted(), POLICY)
    slices = [one for one in verdict.checks if "golden set, accent" in one.name]
    assert [(one.outcome, one.needed) for one in slices] == [("pass", True)] * 3


def test_more_deletions_reject_though_wer_stands() -> None:
    full = adapted()
    silent = []
    for one in full.sets[GOLDEN].utterances:
        words = one.answers[CHALLENGER].words
        swapped = type(words)(hits=words.hits, deletions=words.substitutions)
        answers = dict(one.answers)
        answers[CHALLENGER] = type(one.answers[CHALLENGER])(
            text="", confidence=0.9, words=swapped, characters=words
        )
        silent.append(type(one)(**{**one.__dict__, "answers": answers}))
    golden = type(full.sets[GOLDEN])(snapshots=("digest",), utterances=tuple(silent))
    verdict = gate(evaluation(golden, full.sets[NEW]), POLICY)
    assert check(verdict, "WER no worse on the golden set").outcome == "pass"
    assert check(verdict, "deletions no worse on the golden set").outcome == "reject"


def test_a_verdict_survives_json() -> None:
    verdict = gate(adapted(), POLICY)
    assert Verdict.from_json(verdict.to_json()) == verdict
    with pytest.raises(InvalidInput, match="outcome"):
        Verdict.from_json('{"outcome": "perhaps", "reason": ""}')


@pytest.mark.parametrize("edits", [("substitution", "insertion", "deletion"), ("deletion",)])
def test_the_gate_resamples_as_the_simulations_do(edits: tuple[Edit, ...]) -> None:
    """The false-pass rate is measured on arrays; the gate must compute the same from utterances."""
    found = difference(adapted().sets[NEW].utterances, edits=edits, resamples=500, seed=3)
    change = BETTER - WORSE if "substitution" in edits else BETTER * 0
    order = np.argsort([f"speaker s{speaker}" for speaker in range(40)])
    expected = bootstrap(
        change.sum(axis=1)[order], np.full(40, 40.0 * WORDS), resamples=500, seed=3
    )
    assert np.allclose(found.replicates, expected.replicates)
    assert found.estimate == pytest.approx(float(expected.estimate))


def test_a_worthless_challenger_rarely_passes() -> None:
    """Speakers differ in which model suits them; on average neither is better."""
    passed, rounds = 0, 60
    generator = np.random.default_rng(11)
    golden = judged_set(OLD[:, :1], OLD[:, :1])
    for _ in range(rounds):
        suits = np.clip(generator.normal(0.2, 0.05, (2, 40, 1)), 0.02, 0.6)
        champion, challenger = generator.binomial(WORDS, suits, (2, 40, 5))
        judged = evaluation(golden, judged_set(champion, challenger))
        verdict = gate(judged, GatePolicy(resamples=200))
        passed += check(verdict, "WER better on the new set").outcome == "pass"
    assert passed <= 7
