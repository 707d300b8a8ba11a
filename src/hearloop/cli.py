"""`hearloop`: the embedded stack, the registry and the model server from a terminal."""

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from hearloop import composition, microphone
from hearloop.client import Answer, Client
from hearloop.config import Settings
from hearloop.datasets import open_snapshot
from hearloop.decoding import Word
from hearloop.errors import ConfigurationError, HearloopError, InvalidInput
from hearloop.hotwords import Hotword
from hearloop.lineage import DatasetUse, Lineage
from hearloop.rollout import Traffic
from hearloop.stack import Ports, ServiceStatus, Stack
from hearloop.text import normalise

if TYPE_CHECKING:
    from hearloop.erasure import Held

__all__ = ["app", "main"]

SURE: Final = 0.8
UNSURE: Final = 0.5
"""Confidences from which a word is shown as it is, and below which it is shown in red."""

LISTED: Final = {
    "requests": "request",
    "objects": "object",
    "corrections": "correction",
    "reviews": "up for review: request",
    "versions": "learnt from it: version",
}
"""What a line says before each thing that is kept of a person."""

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
    FEATURES = "features"


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
        bool,
        typer.Option("--free-ports", help="Use ports that are free instead of the usual."),
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
    feast: Annotated[
        Path, typer.Option(help="Of features: the feature_store.yaml of Feast's server.")
    ] = Path("feature_store.yaml"),
) -> None:
    """Create databases, buckets, topics or online features; what is there stays as it is."""
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
    if Part.FEATURES in what:
        from hearloop.feature_store import define_phrases

        if not feast.is_file():
            raise ConfigurationError(f"There is no {feast}; name Feast's configuration by --feast.")
        define_phrases(feast)


@app.command()
def expire() -> None:
    """Delete recordings whose time is over; model servers do it each hour as well."""
    from hearloop.retention import expire as delete

    settings = Settings()
    today = datetime.now(UTC).date()
    deleted = delete(composition.objects(settings), settings.buckets.audio, today)
    print(f"{deleted} recordings deleted.")


@app.command()
def erase(
    speaker: Annotated[str | None, typer.Option(help="As callers' systems name them.")] = None,
    call: Annotated[str | None, typer.Option(help="All that was said in one call.")] = None,
    request: Annotated[list[str] | None, typer.Option(help="Ids of requests.")] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Whose caller it is; unless it is said, anybody's.")
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Erase it for good, in place of only listing it.")
    ] = False,
) -> None:
    """List what is kept of a person, and which models learnt from it; with --delete erase it."""
    from hearloop import erasure

    person = erasure.Person(
        speaker=speaker, call=call, requests=frozenset(request or ()), tenant=tenant
    )
    if not (speaker or call or request):
        raise InvalidInput("Name whom: --speaker, --call or --request.")
    places = composition.places(Settings())
    held = erasure.find(person, places)
    _print_held(held)
    if delete:
        for old, new in erasure.erase(held, places).items():
            print(f"snapshot {old} is now {new}")
        print("All of it is erased." if held else "Nothing was left to erase.")
    else:
        print("Nothing was changed; --delete erases it." if held else "Nothing is kept.")


@app.command()
def phrases(
    tenant: Annotated[str, typer.Argument(help="The tenant, as tokens name it.")],
    phrase: Annotated[list[str], typer.Argument(metavar="PHRASE…", help="What callers may say.")],
    boost: Annotated[float, typer.Option(help="Nats a character: how much each is favoured.")] = (
        Hotword.boost
    ),
) -> None:
    """Put a tenant's phrases, in place of those before, into Feast's online store."""
    settings = Settings()
    store = composition.phrase_store(settings)
    if store is None:
        raise ConfigurationError("No feature server is set; set HEARLOOP_FEAST_URL.")
    store.put_tenant(tenant, {normalise(one, settings.language): boost for one in phrase})


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
def export(
    snapshot: Annotated[str, typer.Argument(help="Digest of a snapshot, as `lineage` lists them.")],
    form: Annotated[str, typer.Argument(help="kaldi, lhotse, nemo or shar.")],
    target: Annotated[str, typer.Argument(help="A folder, or a prefix `s3://bucket/…`.")],
) -> None:
    """Write a snapshot's speech for another toolkit; a folder corpus reads each of them too."""
    from hearloop.exchange import FORMATS
    from hearloop.exchange import export as write

    known = next((one for one in FORMATS if one == form), None)
    if known is None:
        raise ConfigurationError(f"There is no format {form!r}; name one of {', '.join(FORMATS)}.")
    settings = Settings()
    objects = composition.objects(settings)
    found = open_snapshot(snapshot, objects, settings.buckets.snapshots)
    count = write(found, known, target, objects=objects, cache=settings.cache)
    print(f"{count} utterances of snapshot {found.digest[:12]} are in {target}.")


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
        list[Path] | None,
        typer.Argument(metavar="FILE…", help="Recordings.", exists=True, dir_okay=False),
    ] = None,
    from_microphone: Annotated[
        bool, typer.Option("--microphone", help="Listen until Ctrl+C instead.")
    ] = False,
) -> None:
    """Send recordings, or what you say, to the model server and print what it heard."""
    if bool(files) == from_microphone:
        raise InvalidInput("Name recordings, or say --microphone: one of the two.")
    client = Client.of(Settings())
    if files:
        _transcribe_files(files, client)
    else:
        _transcribe_speech(client)


def _transcribe_files(files: Sequence[Path], client: Client) -> None:
    """Texts on stdout; progress and what else is known on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bars = [_FileBar(progress, path) for path in files]
        for path, bar in zip(files, bars, strict=True):
            answer = client.transcribe(path, on_sent=bar.sent, on_heard=bar.heard)
            bar.end()
            print(answer.text)
            progress.console.print(_about(path, answer))


class _FileBar:
    """How much of a file has been sent, then how much of it has been recognised."""

    def __init__(self, progress: Progress, path: Path) -> None:
        self._progress = progress
        self._name = path.name
        self._bytes = path.stat().st_size
        self._seconds = _duration(path)
        self._bar = progress.add_task(path.name, total=self._bytes)

    def sent(self, total: int) -> None:
        if total < self._bytes:
            self._progress.update(self._bar, completed=total)
        else:  # where the length is not known the bar pulses
            self._told("recognising", total=self._seconds, completed=0.0)

    def heard(self, seconds: float) -> None:
        minutes, rest = divmod(int(seconds), 60)
        told = f"recognised {minutes}:{rest:02}"
        self._told(told, total=self._seconds, completed=seconds)

    def end(self) -> None:
        self._progress.update(self._bar, total=1, completed=1, description=self._name)

    def _told(self, what: str, **values: float | None) -> None:
        self._progress.update(self._bar, description=f"{self._name}: {what}", **values)  # type: ignore[arg-type]


def _duration(path: Path) -> float | None:
    """Seconds of a recording; None where only FFmpeg could tell."""
    import soundfile

    try:
        return float(soundfile.info(path).duration) or None
    except soundfile.SoundFileError:
        return None


def _about(path: Path, answer: Answer) -> Text:
    return Text(
        f"{path.name}: confidence {answer.confidence:.2f}, version {answer.model_version}, "
        f"request {answer.request_id}",
        style="dim",
    )


def _transcribe_speech(client: Client) -> None:
    """Utterances on stdout as they end; what is being said on stderr."""
    stop = threading.Event()
    console = Console(stderr=True)
    with _until_interrupted(stop), Live(console=console, transient=True) as live:
        live.update(Text("Speak; Ctrl+C ends.", style="dim"))
        for said in client.stream(microphone.blocks(stop)):
            live.update(_coloured(said.words))
            if said.final:
                live.update(Text())
                print(said.text, flush=True)


@contextmanager
def _until_interrupted(stop: threading.Event) -> Iterator[None]:
    """Ctrl+C sets `stop` meanwhile, so that the last words are still heard."""
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _coloured(words: Sequence[Word]) -> Text:
    line = Text()
    for word in words:
        unsure = "yellow" if word.confidence >= UNSURE else "red"
        line.append(word.text + " ", style="" if word.confidence >= SURE else unsure)
    return line


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


def _print_held(held: "Held") -> None:
    """A line for each thing, so that it can be kept as a record or given to the person."""
    for name in ("requests", "objects", "corrections", "reviews", "versions"):
        for each in getattr(held, name):
            print(f"{LISTED[name]} {each}")
    for uri in held.shared:
        print(f"stays, for others sent the same recording: {uri}")
    for cuts in held.snapshots:
        print(
            f"{len(cuts.utterances)} utterances ({', '.join(cuts.sources)}) "
            f"in snapshot {cuts.snapshot}"
        )
        for uri in cuts.audio:
            print(f"{LISTED['objects']} {uri}")


def _lineage_table(lineage: Lineage) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in (
        "version",
        "learnt from",
        "snapshot",
        "utterances",
        "minutes",
        "corrections",
    ):
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


def _plain(error: HearloopError) -> str:
    """The message with rich's markup escaped."""
    return str(error).replace("[", r"\[")


if __name__ == "__main__":
    main()
