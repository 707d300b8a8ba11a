"""The ports of an embedded stack, all on the loopback interface.

SeaweedFS also binds each of its ports plus 10,000 for gRPC; its maintenance worker looks for the
admin server there, so the offset cannot be changed.
"""

import json
import random
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from hearloop.errors import ConfigurationError

__all__ = ["HOST", "Ports"]

HOST = "127.0.0.1"

FILE = "ports.json"
"""In the home of a stack, from its start to its end."""

SEAWEED_GRPC_OFFSET = 10_000

FREE_RANGE = range(10_000, 22_000)
"""Where `Ports.free` looks. Plus the offset this ends below 32768, where Linux begins to hand out
ports to outgoing connections: such a port could be taken between our look and its use."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """One port for each door of the stack; the defaults are those of `make up`."""

    objects: int = 8333
    objects_master: int = 9333
    objects_volume: int = 9340
    objects_filer: int = 8888
    objects_admin: int = 8646
    events: int = 9092
    tracking: int = 5000
    serving: int = 8080
    monitoring: int = 8090

    @classmethod
    def free(cls) -> "Ports":
        """Ports that nobody listens on now, for stacks that run beside each other."""
        candidates = iter(random.SystemRandom().sample(FREE_RANGE, len(FREE_RANGE)))
        chosen = {}
        for field in fields(cls):
            chosen[field.name] = next(
                port
                for port in candidates
                if not any(_taken(each) for each in _bound(field.name, port))
            )
        return cls(**chosen)

    @classmethod
    def of_home(cls, home: Path) -> "Ports | None":
        """The ports that a stack at home in `home` was started with, if it was not stopped."""
        path = home / FILE
        return cls(**json.loads(path.read_text())) if path.exists() else None

    def keep(self, home: Path) -> None:
        """Remember these as the ports of the stack at home in `home`."""
        (home / FILE).write_text(json.dumps(asdict(self)))

    @staticmethod
    def forget(home: Path) -> None:
        """The stack at home in `home` was stopped."""
        (home / FILE).unlink(missing_ok=True)

    def of(self, service: str) -> Iterator[int]:
        """Every port that `service` binds."""
        for field in fields(self):
            if field.name == service or field.name.startswith(f"{service}_"):
                yield from _bound(field.name, getattr(self, field.name))

    def require_free(self, service: str) -> None:
        """Raise ConfigurationError, with who listens there, if a port of `service` is taken."""
        for port in self.of(service):
            if _taken(port):
                raise ConfigurationError(
                    f"Port {port}, which {service} needs, is taken by {_listener(port)}; stop "
                    "that process, or start the stack with `hearloop up --free-ports`."
                )


def _bound(name: str, port: int) -> tuple[int, ...]:
    return (port, port + SEAWEED_GRPC_OFFSET) if name.startswith("objects") else (port,)


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def _listener(port: int) -> str:
    """The process that listens on `port`, as far as this user may know."""
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid is not None
            ):
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return "another process (of another user, so its name is hidden)"
