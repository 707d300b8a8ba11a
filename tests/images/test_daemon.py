"""The daemon of the tests' own leaves neither a process nor a mount, however it ends."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.images import daemon
from tests.images.daemon import ROOT, Docker, own_daemon

KILLED = """
import sys
from pathlib import Path
from tests.images.daemon import own_daemon

client, data, home = sys.argv[1:]
with own_daemon(client, Path(data), Path(home)):
    print("answers", flush=True)
    sys.stdin.read()
"""
GONE_SECONDS = 10.0

pytestmark = pytest.mark.skipif(
    shutil.which("dockerd") is None or os.geteuid() != 0,
    reason="only root can start a Docker daemon, where dockerd is installed",
)


def processes(folder: Path) -> list[str]:
    """What runs with a file or folder below this one as an argument."""
    return [
        each.info["name"]
        for each in psutil.process_iter(["name", "cmdline"])
        if each.pid != os.getpid() and str(folder) in " ".join(each.info["cmdline"] or ())
    ]


def mounts(folder: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in lines if str(folder) in line]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def test_nothing_stays_after_its_end(client: str, tmp_path: Path, home: Path) -> None:
    with own_daemon(client, tmp_path / "data", home) as own:
        assert own.answers()
        assert "dockerd" in processes(tmp_path)
        assert not mounts(tmp_path)

    assert not processes(tmp_path)
    assert not mounts(tmp_path)
    shutil.rmtree(tmp_path)


def test_nothing_stays_after_a_run_that_was_killed(client: str, tmp_path: Path, home: Path) -> None:
    data = tmp_path / "data"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, client, str(data), str(home)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"answers\n"
        assert "dockerd" in processes(tmp_path)
        run.kill()

    deadline = time.monotonic() + GONE_SECONDS
    while found := processes(tmp_path):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    assert not mounts(tmp_path)
    with own_daemon(client, data, home) as own:
        assert own.answers()
    shutil.rmtree(tmp_path)


def test_layers_in_pieces_are_given_up(client: str, tmp_path: Path, home: Path) -> None:
    data = tmp_path / "data"
    with own_daemon(client, data, home):
        pass
    volumes = data / "volumes" / "metadata.db"
    volumes.write_bytes(b"half of a page")

    with own_daemon(client, data, home) as own:
        assert own.answers()
    assert volumes.read_bytes() != b"half of a page"


def test_one_run_at_a_time_has_it(client: str, tmp_path: Path, home: Path) -> None:
    with (
        own_daemon(client, tmp_path / "data", home),
        pytest.raises(pytest.skip.Exception, match="another run has the Docker daemon"),
        own_daemon(client, tmp_path / "data", home),
    ):
        pass


def test_a_daemon_that_cannot_start_is_said_to_be_so(
    client: str, tmp_path: Path, home: Path
) -> None:
    (home / "docker.sock").mkdir()

    with (
        pytest.raises(pytest.skip.Exception, match=r"dockerd does not start here: .*docker\.sock"),
        own_daemon(client, tmp_path / "data", home),
    ):
        pass


def test_a_daemon_that_says_nothing_is_none(
    client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "ANSWER_SECONDS", 1.0)
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        assert not Docker(client, f"unix://{path}").answers()
