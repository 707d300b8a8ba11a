import pytest

from hearloop.recipe import CorrectionsCorpus, Recipe, SyntheticCorpus
from pipelines import recipes


@pytest.mark.parametrize("make", [*recipes.RECIPES.values(), lambda: recipes.folder("s3://a/b")])
def test_a_recipe_survives_json(make: object) -> None:
    recipe = make()  # type: ignore[operator]

    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_recipe_is_known_by_its_own_name(name: str) -> None:
    assert recipes.RECIPES[name]().name == name


def test_the_base_model_is_judged_on_enough_unheard_speakers() -> None:
    (corpus,) = recipes.synthetic().corpora

    assert isinstance(corpus, SyntheticCorpus)
    assert corpus.speakers.test >= 40


def test_a_retrain_learns_from_the_corrections_asked_for_and_replays_old_speech() -> None:
    recipe = recipes.retrain(after=3, up_to=17)

    assert recipe.corpora == (CorrectionsCorpus(after=3, up_to=17),)
    assert recipe.training.warm_start
    assert recipe.training.replay_utterances > 0


def test_prompts_are_compared_with_nothing() -> None:
    assert not recipes.prompts().gate.compare
