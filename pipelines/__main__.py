"""`python -m pipelines`: run here, compile, submit to a KFP server, or print a recipe."""

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hearloop.errors import ConfigurationError, HearloopError
from hearloop.recipe import Recipe
from pipelines.recipes import RECIPES, folder

if TYPE_CHECKING:
    from hearloop.launchers import KfpLauncher

__all__ = ["RUN_ID", "app", "changed", "named", "read_recipe"]

app = typer.Typer(
    name="python -m pipelines",
    help="Build, judge and roll out a recogniser.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

RUN_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
"""What a Kubernetes label may be: the id is part of object names and of a folder's name too."""

CRON_FIELDS = 6

FOLDER = "folder:"
"""Comes before the place of somebody's own speech."""

CHOICES = f"{', '.join(RECIPES)}, {FOLDER} and the place of your own speech, or a JSON file"

RecipeOption = Annotated[
    str, typer.Option("--recipe", help=f"{CHOICES}.", metavar=f"NAME|{FOLDER}PLACE|FILE")
]
RunIdOption = Annotated[
    str, typer.Option("--run-id", help="Names the run; the same again goes on where it ended.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one field, as in training.steps=20.", metavar="PATH=VALUE"),
]

HostOption = Annotated[str, typer.Option("--host", help="URL of the KFP API.")]
GpusOption = Annotated[
    int,
    typer.Option(
        "--gpus", min=0, help="For training in the step itself; TrainJobs ask for their own."
    ),
]


@app.command()
def run(recipe: RecipeOption, run_id: RunIdOption = "", changes: SetOption = None) -> None:
    """Run the pipeline on this machine, on the running stack or on one of its own."""
    from pipelines.local import run_here

    wanted = changed(read_recipe(recipe), changes or [])
    run_here(wanted, named(run_id, wanted))


@app.command("compile")
def compile_graph(
    output: Annotated[Path, typer.Option("--output", help="Where the IR YAML goes.")],
    gpus: GpusOption = 0,
    scheduled: Annotated[
        bool, typer.Option("--scheduled", help="The one that `schedule` uploads.")
    ] = False,
) -> None:
    """Write the pipeline, with all that it asks of a cluster, as KFP's IR YAML."""
    from pipelines import graph
    from pipelines.compiling import write

    write(graph.on_a_schedule(gpus) if scheduled else graph.in_a_cluster(gpus), output)


@app.command()
def submit(
    host: HostOption,
    recipe: RecipeOption,
    run_id: RunIdOption = "",
    changes: SetOption = None,
    gpus: GpusOption = 0,
) -> None:
    """Start the pipeline on a KFP server; prints the name of the run there."""
    wanted = changed(read_recipe(recipe), changes or [])
    name = named(run_id, wanted)
    with _launcher(host, gpus, scheduled=False) as launcher:
        launcher.launch(name, wanted.to_json())
    print(name)


@app.command()
def schedule(
    name: Annotated[str, typer.Argument(help="Of the schedule; the same again replaces it.")],
    host: HostOption,
    recipe: RecipeOption,
    cron: Annotated[
        str,
        typer.Option("--cron", help="Six fields in UTC, seconds first: '0 0 3 * * 1'."),
    ],
    changes: SetOption = None,
    gpus: GpusOption = 0,
) -> None:
    """Have a KFP server start the pipeline again and again (the monitor does by what it sees)."""
    if len(cron.split()) != CRON_FIELDS:
        raise ConfigurationError(
            f"--cron {cron!r} has {len(cron.split())} fields where KFP takes {CRON_FIELDS}: "
            "second, minute, hour, day of month, month, day of week."
        )
    wanted = changed(read_recipe(recipe), changes or [])
    with _launcher(host, gpus, scheduled=True) as launcher:
        launcher.schedule(named(name, wanted), wanted.to_json(), cron)


@contextmanager
def _launcher(host: str, gpus: int, *, scheduled: bool) -> Iterator["KfpLauncher"]:
    """A launcher of the pipeline as it is now."""
    from hearloop.config import Settings
    from hearloop.launchers import KfpLauncher

    settings = Settings()
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "pipeline.yaml")
        compile_graph(package, gpus, scheduled)
        yield KfpLauncher(
            host,
            package,
            image=settings.kfp_image,
            gpu_image=settings.kfp_gpu_image,
            service_account=settings.kfp_service_account,
        )


@app.command("recipe")
def show_recipe(
    name: Annotated[str, typer.Argument(help=f"{CHOICES}.")],
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
    """A recipe by its name, of a place such as `folder:s3://calls`, or from a JSON file.

    The place is a CSV or JSON-lines manifest or a Kaldi data folder, local or `s3://`. Raises
    ConfigurationError.
    """
    if name in RECIPES:
        return RECIPES[name]()
    if place := name.removeprefix(FOLDER) if name.startswith(FOLDER) else "":
        return folder(place)
    path = Path(name)
    if not path.is_file():
        raise ConfigurationError(f"There is no recipe {name!r}; name one of these: {CHOICES}.")
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


def named(run_id: str, recipe: Recipe) -> str:
    """The run id asked for, or one of its own. Raises ConfigurationError for an unusable one."""
    if not run_id:
        # People choose the names of recipes; the time takes 16 of the 63 characters.
        name = re.sub(r"[^A-Za-z0-9]+", "-", recipe.name)[:47].strip("-") or "run"
        return f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
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
