"""The embedded stack: every service that Hearloop needs, real, on one machine, without Docker.

    >>> with Stack(Path("runs/demo/stack"), ports=Ports.free()) as stack:
    ...     S3Objects(stack.settings).put("s3://hearloop-audio/hello", b"hello")

What the services store lives under the stack's home and is there again after the next start.
"""

import fcntl
import os
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from dotenv import dotenv_values
from pydantic import SecretStr

from hearloop.config import KafkaSettings, Settings
from hearloop.errors import ConfigurationError, ServiceUnavailable
from hearloop.stack.ports import HOST, Ports
from hearloop.stack.services import Service, environment, services
from hearloop.stack.supervision import MARK, UP, Supervisor

__all__ = ["DEFAULT_HOME", "Ports", "ServiceStatus", "Stack"]

DEFAULT_HOME = Path("runs/stack")

FREE_BYTES = 2 * 1024**3
"""What the services may write in a day of demos before the disk is full."""

START_SECONDS = 180.0
"""Until every service is ready: minutes only where many others want the same cores."""

PACKAGES = ("serving", "monitoring")
"""Services that are run from the repository's root."""

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
"""Told to end, and the terminal was closed (which `nohup` has ignored, and so do we then). Ctrl-C
is Python's own exception."""

LOOK_SECONDS = 0.1
"""Between two looks at the services while they start."""


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """One line of `hearloop status`."""

    name: str
    title: str
    address: str
    state: str
    """`ready`, `starting`, `stopped` or `failing`."""
    pid: int
    description: str


class Stack:
    """The services of one home folder.

    Two stacks with different homes and ports run side by side. Without `ports` it has those that
    the home's running stack has, else the usual ones. As a context manager it goes down again on
    any exception, on Ctrl-C, on SIGTERM and when its terminal is closed.
    """

    def __init__(self, home: Path = DEFAULT_HOME, *, ports: Ports | None = None) -> None:
        self.home = home.absolute()
        self.ports = ports or Ports.of_home(self.home) or Ports()
        self.settings = _settings(self.home, self.ports)
        self._services = services(self.home, self.ports, self.settings)
        self._directory = Path.cwd()
        self._supervisor = Supervisor(self.home, self._directory)
        self._handlers: dict[signal.Signals, Any] = {}

    @property
    def alive(self) -> bool:
        """Whether its process manager runs, with whatever services."""
        return self._supervisor.alive()

    @property
    def environment(self) -> dict[str, str]:
        """Variables that point another process of Hearloop at this stack, and end it with it."""
        return {**self.settings.to_environment(), MARK: str(self.home)}

    def up(self, *names: str) -> None:
        """Start the named services with those that they need; all of them without names.

        Services that run are left alone. Raises ConfigurationError for a taken port or a full
        disk and ServiceUnavailable for a service that dies, both with the service's name. A
        stack that ran before goes on then; one that this call started is stopped again.
        """
        wanted = self._with_needs(names or tuple(self._services))
        self._require_space()
        self._require_repository(wanted)
        with self._locked():
            ran = self._supervisor.runs(self._services.values())
            try:
                if not ran:
                    self._start_supervisor()
                self._start(wanted)
            except BaseException:
                if not ran:
                    self._stop()
                raise

    def down(self) -> None:
        """Stop everything that this stack started; what it stored stays."""
        if not self.home.exists():
            return
        with self._locked():
            self._stop()

    def status(self) -> list[ServiceStatus]:
        """Each service as it is now."""
        alive = self._supervisor.alive()
        return [self._status(service, alive) for service in self._services.values()]

    def __enter__(self) -> "Stack":
        if threading.current_thread() is threading.main_thread():
            self._handlers = {
                number: signal.signal(number, _exit)
                for number in ENDINGS
                if signal.getsignal(number) is not signal.SIG_IGN
            }
        try:
            self.up()
        except BaseException:
            self._restore_handlers()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.down()
        finally:
            self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _start_supervisor(self) -> None:
        """Clear away what an earlier process manager left, and start one with nothing to run."""
        self._supervisor.stop(self._waves())
        self._remove_sockets()
        for service in self._services:
            self.ports.require_free(service)
        self.ports.keep(self.home)
        self._write_env()
        self._supervisor.start(self._services.values(), environment(self.settings))

    def _start(self, wanted: Sequence[Service]) -> None:
        """Start each service as soon as those it needs are ready, and wait for all."""
        deadline = time.monotonic() + START_SECONDS
        ready: set[str] = set()
        pids: dict[str, int] = {}
        while True:
            for service in wanted:
                if service.name in ready or not ready.issuperset(service.needs):
                    continue
                if service.name not in pids:
                    service.prepare()
                    self._supervisor.start_service(service.name)
                self._require_life(service, pids)
                if service.ready():
                    self._require_life(service, pids)
                    ready.add(service.name)
            waiting = [service for service in wanted if service.name not in ready]
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise self._failed(waiting[0], f"is not ready after {START_SECONDS:.0f} s")
            time.sleep(LOOK_SECONDS)

    def _require_life(self, service: Service, pids: dict[str, int]) -> None:
        """Raise if the service has ended since it was started, or was started anew."""
        process = self._supervisor.process(service.name)
        if process.state not in UP or pids.setdefault(service.name, process.pid) != process.pid:
            raise self._failed(service, "died while it started")

    def _failed(self, service: Service, what: str) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"{service.name} ({service.title}) {what}; the end of its log "
            f"({self.home / 'logs' / service.name}.log):\n"
            f"{self._supervisor.last_lines(service.name)}"
        )

    def _stop(self) -> None:
        with _undisturbed():
            self._supervisor.stop(self._waves())
            self._remove_sockets()
            self._env_file.unlink(missing_ok=True)
            Ports.forget(self.home)

    def _waves(self) -> list[list[str]]:
        """The services in the order of their end: none before those that need it."""
        depth: dict[str, int] = {}
        for name, service in self._services.items():
            depth[name] = 1 + max((depth[needed] for needed in service.needs), default=0)
        return [
            [name for name in depth if depth[name] == level]
            for level in range(max(depth.values()), 0, -1)
        ]

    def _status(self, service: Service, alive: bool) -> ServiceStatus:
        state, pid, description = "stopped", 0, ""
        if alive:
            process = self._supervisor.process(service.name)
            pid, description = process.pid, process.description
            if process.state in UP:
                state = "ready" if service.ready() else "starting"
            elif process.state != "STOPPED":
                state = "failing"
        return ServiceStatus(
            name=service.name,
            title=service.title,
            address=service.address,
            state=state,
            pid=pid,
            description=description,
        )

    def _with_needs(self, names: Sequence[str]) -> list[Service]:
        wanted = set(names)
        for service in reversed(self._services.values()):  # needs come before who needs them
            if service.name in wanted:
                wanted.update(service.needs)
        return [service for service in self._services.values() if service.name in wanted]

    def _require_space(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.home).free
        if free < FREE_BYTES:
            raise ConfigurationError(
                f"Only {free / 1024**3:.1f} GiB are free on the disk of {self.home}; the object "
                f"storage needs {FREE_BYTES / 1024**3:.0f} GiB. Make room and start again."
            )

    def _require_repository(self, wanted: Sequence[Service]) -> None:
        """The model server and the monitor are packages of the repository, not of the wheel."""
        for service in wanted:
            if service.name in PACKAGES and not (self._directory / service.name).is_dir():
                raise ConfigurationError(
                    f"{self._directory} has no folder {service.name}, which {service.title} is "
                    "started from; start the stack in the root of Hearloop's repository."
                )

    @property
    def _env_file(self) -> Path:
        return self.home / "stack.env"

    def _write_env(self) -> None:
        lines = [f"{name}='{value}'\n" for name, value in self.settings.to_environment().items()]
        descriptor = os.open(self._env_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.writelines(lines)

    def _remove_sockets(self) -> None:
        """SeaweedFS leaves Unix sockets named after its ports in /tmp."""
        for port in self.ports.of("objects"):
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One `up` or `down` of this home at a time."""
        with (self.home / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _settings(home: Path, ports: Ports) -> Settings:
    """The settings of the environment, with this stack's endpoints in place of any other."""
    given = Settings(_env_file=None)  # type: ignore[call-arg]  # a keyword of pydantic-settings
    return given.model_copy(
        update={
            "s3": given.s3.model_copy(update={"endpoint_url": f"http://{HOST}:{ports.objects}"}),
            "kafka": KafkaSettings(
                bootstrap_servers=f"{HOST}:{ports.events}",
                transcriptions_topic=given.kafka.transcriptions_topic,
                corrections_topic=given.kafka.corrections_topic,
            ),
            "mlflow_tracking_uri": f"http://{HOST}:{ports.tracking}",
            "database_url": f"sqlite:///{home / 'hearloop.db'}",
            "feature_repository": home / "feast",
            "serving_url": f"http://{HOST}:{ports.serving}",
            "serving_token": _token(home),
            "monitor_url": f"http://{HOST}:{ports.monitoring}",
            "cache": given.cache.absolute(),
        }
    )


def _token(home: Path) -> SecretStr:
    """Of the stack that runs in this home, else a new one: no other user of this machine, and no
    page that its browser shows, is to command the model server."""
    running = dotenv_values(home / "stack.env").get("HEARLOOP_SERVING_TOKEN")
    return SecretStr(running or secrets.token_urlsafe(24))


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let no second Ctrl-C, SIGTERM or SIGHUP cut the stopping short."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, *ENDINGS)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
