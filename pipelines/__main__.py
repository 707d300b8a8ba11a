"""`python -m pipelines`: run here, compile, submit to a KFP server, or print a recipe."""

import json
import re
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from hearloop.errors import ConfigurationError, HearloopError
from hearloop.recipe import Recipe
from pipelines.recipes import RECIPES

__all__ = ["app", "changed", "read_recipe"]

app = typer.Typer(
    name="python -m pipelines",
    help="Build, judge and roll out a recogniser.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

RUN_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
"""What a Kubernetes label may be: the id is part of object names and of a folder's name too."""

RecipeOption = Annotated[
    str,
    typer.Option("--recipe", help=f"{', '.join(RECIPES)}, or a JSON file.", metavar="NAME|FILE"),
]
RunIdOption = Annotated[
    str, typer.Option("--run-id", help="Names the run; the same again goes on where it ended.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one field, as in training.steps=20.", metavar="PATH=VALUE"),
]


@app.command()
def run(recipe: RecipeOption, run_id: RunIdOption = "", changes: SetOption = None) -> None:
    """Run the pipeline on this machine, on the running stack or on one of its own."""
    from pipelines.local import run_here

    wanted = changed(read_recipe(recipe), changes or [])
    run_here(wanted, _named(run_id, wanted))


@app.command("compile")
def compile_graph(
    output: Annotated[Path, typer.Option("--output", help="Where the IR YAML goes.")],
) -> None:
    """Write the pipeline as KFP's IR YAML."""
    from kfp.compiler import Compiler

    from pipelines.graph import continuous_learning

    output.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(continuous_learning, str(output))


@app.command()
def submit(
    host: Annotated[str, typer.Option("--host", help="URL of the KFP API.")],
    recipe: RecipeOption,
    run_id: RunIdOption = "",
    changes: SetOption = None,
) -> None:
    """Start the pipeline on a KFP server; prints the name of the run there."""
    from hearloop.launchers import KfpLauncher

    wanted = changed(read_recipe(recipe), changes or [])
    name = _named(run_id, wanted)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "pipeline.yaml")
        compile_graph(package)
        KfpLauncher(host, package).launch(name, wanted.to_json())
    print(name)


@app.command("recipe")
def show_recipe(
    name: Annotated[str, typer.Argument(help=f"{', '.join(RECIPES)}, or a JSON file.")],
    output: Annotated[Path | None, typer.Option("--output", help="A file to write.")] = None,
    changes: SetOption = None,
) -> None:
    """Print a recipe as JSON, to keep or to change."""
    wanted = changed(read_recipe(name), changes or [])
    text = json.dumps(json.loads(wanted.to_json()), indent=2) + "\n"
    if output is None:
        print(text, end="")
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text)


def read_recipe(name: str) -> Recipe:
    """A recipe by its name, or from a JSON file. Raises ConfigurationError."""
    if name in RECIPES:
        return RECIPES[name]()
    path = Path(name)
    if not path.is_file():
        raise ConfigurationError(
            f"There is no recipe {name!r}; name one of {', '.join(RECIPES)}, or a JSON file."
        )
    return Recipe.from_json(path.read_text())


def changed(recipe: Recipe, changes: list[str]) -> Recipe:
    """The recipe with fields changed by `path=value`, as in `corpora.0.seed=7`.

    Values are JSON; what is no JSON is a string. Raises ConfigurationError for a path that the
    recipe does not have and for a value of the wrong type.
    """
    body = json.loads(recipe.to_json())
    for change in changes:
        path, equals, value = change.partition("=")
        try:
            if not equals:
                raise KeyError(change)
            _put(body, path.split("."), value)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"--set {change} changes nothing in recipe {recipe.name}; give the path of a "
                "field and its value, as in training.steps=20."
            ) from error
    return Recipe.from_json(json.dumps(body))


def _put(body: Any, path: list[str], value: str) -> None:
    *parents, last = path
    for part in parents:
        body = body[int(part)] if isinstance(body, list) else body[part]
    key: Any = int(last) if isinstance(body, list) else last
    body[key]  # raises where there is no such field
    try:
        body[key] = json.loads(value)
    except json.JSONDecodeError:
        body[key] = value


def _named(run_id: str, recipe: Recipe) -> str:
    """The run id asked for, or one of its own. Raises ConfigurationError for an unusable one."""
    if not run_id:
        return f"{recipe.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if not RUN_ID.fullmatch(run_id):
        raise ConfigurationError(
            f"{run_id!r} cannot name a run; use up to 63 letters, digits, dots, dashes and "
            "underscores, with a letter or digit at both ends."
        )
    return run_id


def main() -> None:
    """Run a command; an error of ours ends it with its sentence on the last line."""
    try:
        app()
    except HearloopError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
