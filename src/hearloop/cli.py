"""`hearloop`: the embedded stack, the registry and the model server from a terminal."""

import mimetypes
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from hearloop import composition
from hearloop.config import Settings
from hearloop.errors import ConfigurationError, HearloopError, InvalidInput, ServiceUnavailable
from hearloop.lineage import DatasetUse, Lineage
from hearloop.rollout import Traffic
from hearloop.stack import Ports, ServiceStatus, Stack

__all__ = ["app", "main"]

TRANSCRIBE_SECONDS = 120.0
"""Patience for one file: an hour of speech takes about half a minute on one busy core."""

TRANSCRIPTION_ROUTE = "/openai/v1/audio/transcriptions"

COLOURS = {"ready": "green", "starting": "yellow", "stopped": "dim", "failing": "red"}

app = typer.Typer(
    name="hearloop",
    help="A speech recognition platform that keeps learning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


class Part(StrEnum):
    """What a cluster needs before the platform starts in it."""

    DATABASES = "databases"
    BUCKETS = "buckets"
    TOPICS = "topics"


def main() -> None:
    """Run a command; what went wrong is said in one line."""
    try:
        app()
    except HearloopError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]{_plain(error)}")
        sys.exit(1)


@app.command()
def up(
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Use ports that are free instead of the usual.")
    ] = False,
) -> None:
    """Start the embedded stack and leave it running; print each address."""
    stack = Stack()
    if free_ports and not stack.alive:
        stack = Stack(ports=Ports.free())
    with Console(stderr=True).status("starting the services"):
        stack.up()
    _print_status(stack.status())


@app.command()
def down() -> None:
    """Stop the embedded stack; what it stored stays."""
    with Console(stderr=True).status("stopping the services"):
        Stack().down()


@app.command()
def status() -> None:
    """Print each service of the embedded stack; the exit status is 1 unless all are ready."""
    services = Stack().status()
    _print_status(services)
    if any(service.state != "ready" for service in services):
        raise typer.Exit(1)


@app.command()
def prepare(
    what: Annotated[list[Part], typer.Argument(help="What to create.")],
) -> None:
    """Create databases, buckets or topics of the settings; what is there stays as it is."""
    from hearloop.storage.databases import create_databases
    from hearloop.storage.events import create_topics
    from hearloop.storage.objects import S3Objects

    settings = Settings()
    if Part.DATABASES in what:
        create_databases(settings.database_url)
    if Part.BUCKETS in what:
        store = S3Objects(settings)
        for bucket in settings.buckets.model_dump().values():
            store.create_bucket(bucket)
    if Part.TOPICS in what:
        create_topics(settings)


@app.command()
def lineage(
    version: Annotated[str, typer.Argument(help="A version of the model, or `champion`.")],
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """List the snapshots and corrections that a version and its parents learnt from."""
    registry = composition.registry(Settings())
    if version == "champion":
        champion = registry.champion()
        if champion is None:
            raise ConfigurationError("No version is champion yet; run a pipeline first.")
        version = champion
    found = registry.lineage(version)
    if as_json:
        print(found.to_json())
    else:
        Console().print(_lineage_table(found))


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="A version that is registered.")],
) -> None:
    """Give a version all traffic and make it champion, without a rollout: the way back by hand."""
    settings = Settings()
    registry = composition.registry(settings)
    before = registry.champion()
    composition.router(settings).write(Traffic(stable=version))  # refused: the champion stays
    registry.promote(version)
    print(f"Version {version} serves all calls and is champion; it was {before or 'nobody'}.")


@app.command()
def transcribe(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Recordings.", exists=True, dir_okay=False)
    ],
) -> None:
    """Send recordings to the model server and print what it heard."""
    settings = Settings()
    for path in files:
        answer = _transcription(path, settings)
        print(answer["text"])
        Console(stderr=True).print(
            f"[dim]{path.name}: confidence {answer['confidence']:.2f}, "
            f"version {answer['model_version']}, request {answer['request_id']}"
        )


def _print_status(services: list[ServiceStatus]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("service", "state", "address", "process", "what it is"):
        table.add_column(heading, no_wrap=True)
    for service in services:
        colour = COLOURS[service.state]
        table.add_row(
            service.name,
            f"[{colour}]{service.state}[/]",
            service.address,
            str(service.pid or "-"),
            service.title,
        )
    Console().print(table)


def _lineage_table(lineage: Lineage) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("version", "learnt from", "snapshot", "utterances", "minutes", "corrections"):
        table.add_column(heading, overflow="fold")
    for each in lineage.ancestors():
        for use in each.learnt_from:
            table.add_row(
                each.version,
                use.context,
                use.snapshot[:12],
                str(use.utterances),
                f"{use.seconds / 60:.1f}",
                _corrections(use),
            )
    return table


def _corrections(use: DatasetUse) -> str:
    if use.corrections is None:
        return "-"
    taken = use.corrections
    return f"{len(taken.ids)} of {taken.first} to {taken.last}"


def _transcription(path: Path, settings: Settings) -> dict[str, Any]:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    url = settings.serving_url + TRANSCRIPTION_ROUTE
    try:
        response = httpx.post(
            url,
            files={"file": (path.name, path.read_bytes(), kind)},
            headers=settings.serving_headers,
            timeout=TRANSCRIBE_SECONDS,
        )
    except httpx.TransportError as error:
        raise ServiceUnavailable(
            f"The model server at {settings.serving_url} did not answer: {error}; start the "
            "stack with `make up`, or set HEARLOOP_SERVING_URL."
        ) from error
    if response.is_client_error:
        raise InvalidInput(f"{path} was refused ({response.status_code}): {response.text}")
    if response.is_error:
        raise ServiceUnavailable(
            f"The model server failed on {path} ({response.status_code}): {response.text}"
        )
    answer: dict[str, Any] = response.json()
    return answer


def _plain(error: HearloopError) -> str:
    """The message with rich's markup escaped."""
    return str(error).replace("[", r"\[")


if __name__ == "__main__":
    main()
