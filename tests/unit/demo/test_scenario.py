"""Nobody is judged on a voice or a sentence that a model has learnt from."""

from collections import Counter

from demo.scenario import NEW_ACCENTS, SCENARIO, Callers
from hearloop.corpora.synthetic import speakers
from pipelines.recipes import CALLERS

GROUPS = {
    name: getattr(SCENARIO, name)
    for name in ("judged_base", "judged_changed", "usual", "changed", "later")
}
LEARNT_FROM = ("changed", "later")
JUDGED = ("judged_base", "judged_changed")


def voices(group: Callers) -> set[str]:
    return {one.voice.name for one in speakers(group.corpus, group.split)}


def test_each_judged_group_has_at_least_forty_speakers() -> None:
    assert all(len(voices(GROUPS[name])) >= 40 for name in JUDGED)


def test_no_voice_is_in_two_groups() -> None:
    counted = Counter(voice for group in GROUPS.values() for voice in voices(group))
    assert max(counted.values()) == 1


def test_the_base_model_is_judged_on_voices_that_it_never_heard() -> None:
    trained = {one.voice.name for one in speakers(CALLERS, "train")}
    assert not trained & set().union(*map(voices, GROUPS.values()))


def test_judged_sentences_belong_to_a_split_that_nobody_learns_from() -> None:
    assert {GROUPS[name].split for name in JUDGED} == {"test"}
    assert "test" not in {GROUPS[name].split for name in LEARNT_FROM}


def test_the_change_is_in_accents_line_and_products() -> None:
    for name in (*LEARNT_FROM, "judged_changed"):
        corpus = GROUPS[name].corpus
        assert set(corpus.accents) == set(NEW_ACCENTS)
        assert not set(corpus.accents) & set(CALLERS.accents)
        assert corpus.telephone
        assert corpus.new_products


def test_enough_usual_calls_are_watched_and_enough_are_corrected() -> None:
    assert SCENARIO.usual.calls > SCENARIO.watched_before_change >= 200
    poisoned = SCENARIO.later.calls - SCENARIO.honest_calls
    assert poisoned >= 0.9 * SCENARIO.corrected_share * SCENARIO.changed.calls
