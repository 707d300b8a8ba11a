"""The process manager of the stack: supervisor 4.3, spoken to over its Unix socket.

Supervisord restarts what dies and stops whole process groups. This module writes its
configuration, starts and ends it, and clears away what a killed supervisord left running.
"""

import contextlib
import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from hearloop.errors import ServiceUnavailable
from hearloop.stack.services import Service

__all__ = ["UP", "Process", "Supervisor"]

MARK = "HEARLOOP_STACK"
"""Environment variable that tells which stack a process belongs to, its descendants included."""

UP = ("STARTING", "RUNNING")
"""Supervisor's states of a process that lives."""

DOWN = ("STOPPED", "EXITED", "FATAL")
"""Supervisor's states of a process that it leaves alone."""

STEADY_SECONDS = 1
"""How long a process must live before supervisor calls it started."""

STOP_SECONDS = 25
"""How long a service may take to end after SIGTERM before its group is killed: the model server
gives open requests 10 s and its log of them another 10 s."""

SOCKET_PATH_BYTES = 100
"""Linux takes 107 for a Unix socket; supervisord adds its process number while it binds."""

CONFIGURATION = """\
; Written by hearloop.stack; changes are lost.
[unix_http_server]
file = {socket}
chmod = 0700

[supervisord]
logfile = {home}/logs/supervisord.log
logfile_maxbytes = 5MB
logfile_backups = 1
pidfile = {home}/supervisord.pid
childlogdir = {home}/logs
directory = {directory}
umask = 077

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""

PROGRAM = """
[program:{name}]
command = {command}
priority = {priority}
autostart = false
autorestart = true
startsecs = {steady}
startretries = 3
stopasgroup = true
killasgroup = true
stopwaitsecs = {stop}
redirect_stderr = true
stdout_logfile = {home}/logs/{name}.log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 1
"""


@dataclass(frozen=True, kw_only=True)
class Process:
    """What supervisor says about one service."""

    state: str
    """One of supervisor's: those of UP and DOWN, BACKOFF and STOPPING."""
    pid: int
    """0 when it does not run."""
    description: str


class Supervisor:
    """One supervisord with its services, at home in a folder."""

    def __init__(self, home: Path, directory: Path) -> None:
        self._home = home
        self._directory = directory
        self._configuration = home / "supervisord.conf"
        self._socket = _socket(home)

    def alive(self) -> bool:
        """Whether supervisord runs and answers."""
        if not self._socket.exists():
            return False
        try:
            return self._call("getSupervisorVersion") is not None
        except ServiceUnavailable:
            return False

    def runs(self, services: Iterable[Service]) -> bool:
        """Whether it runs and was configured for just these services."""
        if not self._configuration.exists():
            return False
        return self._configuration.read_text() == self._written(services) and self.alive()

    def start(self, services: Iterable[Service], environment: Mapping[str, str]) -> None:
        """Start supervisord, with no service running yet. Raises ServiceUnavailable."""
        (self._home / "logs").mkdir(parents=True, exist_ok=True)
        self._socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._configuration.write_text(self._written(services))
        started = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._configuration)],
            env={**os.environ, **environment, MARK: str(self._home)},
            capture_output=True,
            text=True,
        )
        if started.returncode == 0 and self._wait(self.alive):
            return
        raise ServiceUnavailable(
            f"The process manager did not start: {started.stderr.strip() or 'no answer'}; "
            f"its log is {self._home / 'logs' / 'supervisord.log'}."
        )

    def start_service(self, name: str) -> None:
        """Start one service without waiting for it; one that runs or is tried is left alone."""
        if self.process(name).state in DOWN:
            self._call("startProcess", name, False)

    def process(self, name: str) -> Process:
        """The process of one service now."""
        said = self._call("getProcessInfo", name)
        return Process(state=said["statename"], pid=said["pid"], description=said["description"])

    def stop(self, waves: Iterable[Iterable[str]]) -> None:
        """End who uses the services, these wave after wave, supervisord and whatever is left."""
        with contextlib.suppress(ServiceUnavailable):
            if self.alive():
                own = self._own()
                _end(process for process in self.processes() if process not in own)
                for wave in waves:
                    self._stop_services(wave)
                self._call("shutdown")
                psutil.wait_procs(own, timeout=STOP_SECONDS)
        self.clear()

    def _own(self) -> list[psutil.Process]:
        """Supervisord and what descends from it: the others of this stack only use services."""
        try:
            manager = psutil.Process(self._call("getPID"))
            return [manager, *manager.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _stop_services(self, names: Iterable[str]) -> None:
        running = [name for name in names if self.process(name).state in UP]
        for name in running:
            self._call("stopProcess", name, False)
        self._wait(lambda: not any(self.process(name).pid for name in running))

    def clear(self) -> None:
        """End every process of this stack, whoever its parent is now, and remove its socket."""
        _end(self.processes())
        self._socket.unlink(missing_ok=True)
        if self._socket.parent != self._home:
            with contextlib.suppress(FileNotFoundError):
                self._socket.parent.rmdir()

    def processes(self) -> list[psutil.Process]:
        """Every process of this user that was started by or for this stack, at any depth.

        Not this one and those above it: a marked process may itself bring the stack down.
        """
        this = psutil.Process()
        ours = {this.pid, *(parent.pid for parent in this.parents())}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid not in ours and process.environ().get(MARK) == str(self._home):
                    found.append(process)
        return found

    def last_lines(self, name: str, count: int = 15) -> str:
        """The end of a service's log."""
        path = self._home / "logs" / f"{name}.log"
        if not path.exists():
            return "(it wrote no log)"
        return "\n".join(path.read_text(errors="replace").splitlines()[-count:])

    @staticmethod
    def _wait(until: Callable[[], bool]) -> bool:
        """Look again and again, for as long as a service may take to end."""
        deadline = time.monotonic() + STOP_SECONDS + 2
        while time.monotonic() < deadline:
            if until():
                return True
            time.sleep(0.02)
        return False

    def _call(self, method: str, *arguments: Any) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except (OSError, xmlrpc.client.Error) as error:
            raise ServiceUnavailable(
                f"The process manager at {self._socket} did not take {method}: {error}; "
                "see `hearloop status`."
            ) from error
        finally:
            transport.close()

    def _written(self, services: Iterable[Service]) -> str:
        head = CONFIGURATION.format(
            socket=_escaped(str(self._socket)),
            home=_escaped(str(self._home)),
            directory=_escaped(str(self._directory)),
        )
        programs = [
            PROGRAM.format(
                name=service.name,
                command=_escaped(shlex.join(service.command)),
                priority=place,
                steady=STEADY_SECONDS,
                stop=STOP_SECONDS,
                home=_escaped(str(self._home)),
            )
            for place, service in enumerate(services)
        ]
        return head + "".join(programs)


def _end(processes: Iterable[psutil.Process]) -> None:
    """Tell processes to end, all at once, and kill those that do not."""
    told = list(processes)
    for process in told:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(told, timeout=STOP_SECONDS)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=STOP_SECONDS)


def _socket(home: Path) -> Path:
    """Where supervisord listens: at home, or in a short folder if home's path is too long."""
    path = home / "supervisor.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    short = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"hearloop-{os.getuid()}-{short}", path.name)


def _escaped(text: str) -> str:
    """Supervisord expands %(names)s."""
    return text.replace("%", "%%")
