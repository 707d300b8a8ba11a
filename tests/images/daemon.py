"""Docker for the tests: the machine's daemon, else one of their own that leaves nothing behind.

The daemon of our own lives in namespaces of its own. What it mounts is seen by nobody else, and all
of its processes and mounts are gone when it ends, however it ends.
"""

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil
import pytest

__all__ = ["APART", "ROOT", "Docker", "buildkit_client", "machine_daemon", "own_daemon"]

ROOT = Path(__file__).parents[2]

ANSWER_SECONDS = 15.0
"""A daemon that lists itself more slowly than this is as good as none."""
START_SECONDS, STOP_SECONDS = 120.0, 60.0

APART = (
    *("setpriv", "--pdeathsig=KILL"),
    *("unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child=KILL"),
)
"""Runs a command (root only) whose mounts and processes end with it, and it with us."""
RUN = "/run/containerd"
ALONE = f'mkdir -p {RUN} && mount -t tmpfs tmpfs {RUN} && exec "$@"'
"""A containerd of the machine, or what is left of one, is out of the daemon's sight; what the
daemon needs while it runs is seen by it alone."""
UNBRIDGED = ("--bridge=none", "--iptables=false", "--ip6tables=false")
"""Builds and containers use the host's network, and the firewall stays as it is."""


@dataclass(frozen=True)
class Docker:
    """A client and the daemon that it talks to."""

    client: str
    host: str
    """As in DOCKER_HOST; empty for the client's own default."""

    def __call__(
        self, *arguments: str, check: bool = True, seconds: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; fails with what it said."""
        done = subprocess.run(
            [self.client, *arguments],
            env=os.environ
            | {"DOCKER_BUILDKIT": "1"}
            | ({"DOCKER_HOST": self.host} if self.host else {}),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments[0]}: {done.stderr[-3000:]}"
        return done

    def answers(self) -> bool:
        """Whether the daemon does; one that takes connections and says nothing does not."""
        try:
            return self("info", check=False, seconds=ANSWER_SECONDS).returncode == 0
        except subprocess.TimeoutExpired:
            return False


def buildkit_client() -> str | None:
    """A client that speaks BuildKit: by buildx, or one from before 23.0, which has it built in."""
    for client in (shutil.which("docker"), "/usr/bin/docker"):
        if client and Path(client).exists():
            shown = subprocess.run([client, "--version"], capture_output=True, text=True).stdout
            old = shown.removeprefix("Docker version ").partition(".")[0]
            plugin = subprocess.run([client, "buildx", "version"], capture_output=True)
            if plugin.returncode == 0 or (old.isdecimal() and int(old) < 23):
                return client
    return None


def machine_daemon(client: str) -> Docker | None:
    """The daemon that the client talks to by itself, if it answers."""
    found = Docker(client, "")
    return found if found.answers() else None


@contextmanager
def own_daemon(client: str, data: Path, home: Path) -> Iterator[Docker]:
    """A daemon that keeps its layers in `data`, and its socket and its log in `home`."""
    daemon = shutil.which("dockerd")
    if daemon is None or os.geteuid() != 0:
        pytest.skip("no Docker daemon answers, and only root can start one where dockerd is")
    own = Docker(client, f"unix://{home}/docker.sock")
    command = [daemon, "--host", own.host, "--data-root", str(data), *UNBRIDGED]
    command += ["--exec-root", f"{RUN}/docker", "--pidfile", f"{RUN}/docker.pid"]
    with _claimed(data), (home / "dockerd.log").open("wb") as log:
        process = _started(command, data, own, log)
        try:
            own("container", "prune", "--force")  # of a run that was killed
            own("image", "prune", "--force")
            yield own
        finally:
            _end(process)


@contextmanager
def _claimed(data: Path) -> Iterator[None]:
    """The folder, for one run at a time."""
    data.mkdir(parents=True, exist_ok=True)
    with data.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.skip(f"another run has the Docker daemon of {data}: wait for its end")
        yield


def _started(
    command: Sequence[str], data: Path, own: Docker, log: BinaryIO
) -> "subprocess.Popen[bytes]":
    """A daemon that answers; what a killed one left in pieces is given up once."""
    for attempt in ("with the layers that are there", "with none"):
        process = subprocess.Popen(
            [*APART, "sh", "-c", ALONE, "sh", *command], stdout=log, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if own.answers():
                return process
            time.sleep(0.2)
        _end(process)
        if attempt != "with none":
            shutil.rmtree(data, ignore_errors=True)
    last = Path(log.name).read_text(errors="replace").strip().splitlines()[-1:]
    pytest.skip(f"dockerd does not start here: {' '.join(last)[-300:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Have the daemon stop its containers and end; kill all that it started when it does not."""
    if process.poll() is None:
        for daemon in psutil.Process(process.pid).children():
            daemon.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
