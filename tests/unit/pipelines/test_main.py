import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hearloop.errors import ConfigurationError
from hearloop.recipe import Recipe
from pipelines import recipes
from pipelines.__main__ import RUN_ID, app, changed, named, read_recipe

SYNTHETIC = recipes.synthetic()


def test_fields_are_changed_by_path() -> None:
    recipe = changed(
        SYNTHETIC,
        ["training.steps=20", "corpora.0.speakers.test=41", "name=tiny", "gate.compare=false"],
    )

    assert recipe.training.steps == 20
    assert recipe.corpora[0].speakers.test == 41  # type: ignore[union-attr]
    assert recipe.name == "tiny"
    assert recipe.gate.compare is False
    assert recipe.rollout == SYNTHETIC.rollout


@pytest.mark.parametrize(
    "change",
    ["training.stepz=3", "training", "corpora.7.seed=1", "corpora.x.seed=1", "training.steps.a=1"],
)
def test_a_path_that_a_recipe_lacks_is_refused(change: str) -> None:
    with pytest.raises(ConfigurationError, match="changes nothing in recipe synthetic"):
        changed(SYNTHETIC, [change])


def test_a_value_of_the_wrong_type_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"training\.steps"):
        changed(SYNTHETIC, ["training.steps=many"])


def test_a_recipe_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(recipes.retrain(up_to=5).to_json())

    assert read_recipe(str(path)) == recipes.retrain(up_to=5)


@pytest.mark.parametrize("place", ["s3://calls/june.csv", "../my speech/manifest.jsonl", "a:b"])
def test_speech_of_ones_own_is_named_by_its_place(place: str) -> None:
    assert read_recipe(f"folder:{place}") == recipes.folder(place)


@pytest.mark.parametrize("name", ["nope", "folder:", "folder"])
def test_an_unknown_recipe_is_refused_with_the_known_ones(name: str) -> None:
    known = f"no recipe '{name}'.*synthetic, retrain, prompts, italian, folder:"
    with pytest.raises(ConfigurationError, match=known):
        read_recipe(name)


def test_a_printed_recipe_is_the_recipe(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["recipe", "prompts", "--set", "training.seed=9"])
    CliRunner().invoke(app, ["recipe", "prompts", "--output", str(tmp_path / "a" / "b.json")])

    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["training"]["seed"] == 9
    assert Recipe.from_json((tmp_path / "a" / "b.json").read_text()) == recipes.prompts()


@pytest.mark.parametrize("run_id", ["a/b", "-a", "a-", ".", " ", "a b", "x" * 64])
def test_a_run_id_that_cannot_name_a_folder_or_a_label_is_refused(run_id: str) -> None:
    ended = CliRunner().invoke(
        app, ["run", "--recipe", "synthetic", "--run-id", run_id], catch_exceptions=True
    )

    assert isinstance(ended.exception, ConfigurationError)
    assert "cannot name a run" in str(ended.exception)


def test_a_run_without_an_id_is_named_by_its_recipe_and_the_time() -> None:
    assert re.fullmatch(r"synthetic-\d{8}-\d{6}", named("", SYNTHETIC))
    assert named("mine", SYNTHETIC) == "mine"


@pytest.mark.parametrize("name", ["my recipe", "a/b", "_", "ünder", "x" * 63])
def test_the_name_of_a_recipe_need_not_be_one_of_a_run(name: str) -> None:
    """People choose it; what is left of it names a folder and a label."""
    given = named("", replace(SYNTHETIC, name=name))

    assert RUN_ID.fullmatch(given)
    assert named(given, SYNTHETIC) == given


def test_a_schedule_of_five_fields_is_refused_before_anything_is_asked() -> None:
    asked = ["schedule", "weekly", "--host", "http://127.0.0.1:9", "--recipe", "synthetic"]

    ended = CliRunner().invoke(app, [*asked, "--cron", "0 3 * * 1"])

    assert isinstance(ended.exception, ConfigurationError)
    assert "has 5 fields where KFP takes 6" in str(ended.exception)
