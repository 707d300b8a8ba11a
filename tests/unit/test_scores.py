import pytest

from hearloop.errors import InvalidInput
from hearloop.scores import (
    CHALLENGER,
    CHAMPION,
    GOLDEN,
    NEW,
    Evaluation,
    JudgedSet,
    rate,
    sliced,
)
from hearloop.scoring import total
from tests.unit.judged import WORDS, errors, evaluation, judged_set

OLD, WORSE, BETTER = errors(0.04), errors(0.60, seed=1), errors(0.14, seed=2)


def made_up() -> Evaluation:
    heard = {CHAMPION: "", CHALLENGER: "oh yes"}
    return evaluation(judged_set(OLD, OLD), judged_set(WORSE, BETTER), heard=heard)


def test_figures_come_from_the_counts() -> None:
    found = made_up()
    assert found.wer(NEW, CHAMPION) == pytest.approx(WORSE.mean() / WORDS)
    assert found.cer(NEW, CHALLENGER) == pytest.approx(BETTER.mean() / WORDS)
    assert found.invented_words_per_minute(CHAMPION) == 0.0
    assert found.invented_words_per_minute(CHALLENGER) == pytest.approx(24.0)
    assert found.metrics()["golden.wer.challenger"] == found.wer(GOLDEN, CHALLENGER)
    assert found.metrics()["real_time_factor.champion"] == 0.005


def test_a_set_of_several_kinds_of_corpus_has_a_rate_for_each() -> None:
    heard = judged_set(OLD, OLD, slices={"source": "synthetic"}).utterances
    unheard = judged_set(WORSE, BETTER, slices={"source": "prompts"}).utterances
    mixed = JudgedSet(snapshots=("digest",), utterances=(*heard, *unheard))

    found = evaluation(judged_set(OLD, OLD, slices={"source": "synthetic"}), mixed)

    rates = found.word_error_rates()
    assert set(rates) == {"golden", "new", "new synthetic", "new prompts"}
    assert rates["new prompts"][CHALLENGER] == pytest.approx(BETTER.mean() / WORDS)
    assert rates["new synthetic"][CHALLENGER] == pytest.approx(OLD.mean() / WORDS)
    assert rates["new"][CHALLENGER] == pytest.approx((OLD.mean() + BETTER.mean()) / 2 / WORDS)
    assert found.metrics()["new.prompts.wer.challenger"] == rates["new prompts"][CHALLENGER]


def test_a_rate_states_its_interval_and_what_it_rests_on() -> None:
    utterances = made_up().sets[NEW].utterances
    found = rate(utterances, CHALLENGER, confidence=0.95, resamples=500, seed=0)
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.04
    assert (found.utterances, found.words, found.blocks) == (1600, 16000, 40)
    letters = rate(
        utterances, CHALLENGER, confidence=0.95, resamples=500, seed=0, unit="characters"
    )
    counts = total(one.answers[CHALLENGER].characters for one in utterances)
    assert letters.low < letters.value < letters.high
    assert letters.value == pytest.approx(counts.rate)
    with pytest.raises(ValueError, match="no utterance"):
        rate([], CHALLENGER, confidence=0.95, resamples=10, seed=0)


def test_slices_hold_each_utterance_once_and_drop_what_does_not_divide() -> None:
    golden = made_up().sets[GOLDEN]
    parts = sliced(golden.utterances)
    assert list(parts) == [("accent", "en-gb"), ("accent", "en-gb-x-rp"), ("accent", "en-us")]
    assert sum(map(len, parts.values())) == len(golden.utterances)
    assert sliced(judged_set(OLD, OLD, slices={"source": "prompts"}).utterances) == {}


def test_an_evaluation_survives_json() -> None:
    found = made_up()
    assert Evaluation.from_json(found.to_json()) == found
    with pytest.raises(InvalidInput, match="sets"):
        Evaluation.from_json('{"models": {}, "sets": 3}')
