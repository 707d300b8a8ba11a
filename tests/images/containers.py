"""Containers as a cluster runs them: no root, no writable disk but /tmp, no privilege."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.images.daemon import Docker

__all__ = ["CONFINED", "Container", "running", "said"]

CONFINED = (
    *("--network=host", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    *("--tmpfs=/tmp:rw,noexec,nosuid,size=512m", "--memory=1g", "--pids-limit=512"),
)
"""What the restricted pod security level asks for, and the limits of the manifests. The host's
network, because the services that it talks to listen on the loopback alone."""


@dataclass(frozen=True)
class Container:
    """One that runs."""

    docker: Docker
    id: str

    @property
    def state(self) -> dict[str, Any]:
        """As Docker sees it: Running, ExitCode."""
        found: dict[str, Any] = json.loads(
            self.docker("inspect", "--format", "{{json .State}}", self.id).stdout
        )
        return found

    @property
    def log(self) -> str:
        """What it printed."""
        done = self.docker("logs", self.id)
        return done.stdout + done.stderr

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command inside; returns what it printed."""
        done = self.docker("exec", self.id, *command, check=check)
        return done.stdout + done.stderr

    def stop(self) -> int:
        """SIGTERM, as Kubernetes does; returns the exit status."""
        self.docker("stop", "-t", "30", self.id)
        return int(self.state["ExitCode"])


@contextmanager
def running(
    docker: Docker,
    image: str,
    environment: Mapping[str, str],
    *,
    options: Sequence[str] = (),
    command: Sequence[str] = (),
) -> Iterator[Container]:
    """A confined container, gone at the end."""
    given = [option for name in environment for option in ("--env", f"{name}={environment[name]}")]
    made = docker("run", "--detach", *CONFINED, *given, *options, image, *command)
    container = Container(docker, made.stdout.strip())
    try:
        yield container
    finally:
        docker("rm", "--force", container.id)


def said(docker: Docker, image: str, *command: str) -> str:
    """What one command prints in a confined container of its own."""
    return docker("run", "--rm", *CONFINED, "--entrypoint=", image, *command).stdout
