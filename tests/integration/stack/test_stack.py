"""The embedded stack as its users meet it: it starts, it says what is wrong, it leaves nothing."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hearloop import composition
from hearloop.errors import ConfigurationError, ServiceUnavailable
from hearloop.stack import Ports, Stack
from hearloop.stack.supervision import MARK
from hearloop.storage.objects import S3Objects

pytestmark = pytest.mark.stack


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Stack]:
    """A stack of the test's own, with nothing started yet."""
    stack = Stack(tmp_path / "stack", ports=Ports.free())
    yield stack
    stack.down()


def processes_of(stack: Stack) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(stack.home):
                found.append(process)
        except psutil.Error:
            continue
    return found


def sockets_of(stack: Stack) -> list[Path]:
    ports = list(stack.ports.of("objects"))
    return [path for port in ports for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")]


def pids(stack: Stack) -> dict[str, int]:
    return {service.name: service.pid for service in stack.status()}


def test_the_whole_stack_is_ready_and_listens_on_the_loopback_alone(stack: Stack) -> None:
    assert {service.name: service.state for service in stack.status()} == {
        "objects": "ready",
        "events": "ready",
        "tracking": "ready",
        "serving": "ready",
        "monitoring": "ready",
    }
    ours = {process.pid for process in processes_of(stack)}
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.pid in ours and connection.laddr and connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_starting_it_again_changes_nothing(stack: Stack) -> None:
    before = pids(stack)
    stack.up()
    Stack(stack.home, ports=stack.ports).up("events")
    Stack(stack.home).up("events")  # it knows the ports of the running stack
    assert pids(stack) == before


def test_what_is_stored_is_there_after_the_next_start(own: Stack) -> None:
    own.up("tracking", "objects")
    uri = f"s3://{own.settings.buckets.artifacts}/kept"
    S3Objects(own.settings).put(uri, b"kept")
    run_id = composition.registry(own.settings).run("kept")

    own.down()
    assert processes_of(own) == []
    assert sockets_of(own) == []
    again = Stack(own.home, ports=Ports.free())
    try:
        again.up("tracking", "objects")
        assert S3Objects(again.settings).get(uri) == b"kept"
        assert composition.registry(again.settings).run("kept") == run_id
    finally:
        again.down()


@pytest.mark.parametrize("door", ["objects", "objects_filer", "events", "monitoring"])
def test_a_port_that_is_taken_is_named_with_who_has_it(own: Stack, door: str) -> None:
    port = getattr(own.ports, door)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ConfigurationError) as caught:
        own.up("objects")
    message = str(caught.value)
    assert f"Port {port}" in message
    assert door.split("_")[0] in message
    assert f"(process {os.getpid()})" in message
    assert processes_of(own) == []


def test_a_full_disk_is_named(own: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hearloop.stack.FREE_BYTES", 2**60)
    with pytest.raises(ConfigurationError, match=f"GiB are free on the disk of {own.home}"):
        own.up("objects")
    assert processes_of(own) == []


def test_a_service_that_dies_is_named_with_the_end_of_its_log(own: Stack) -> None:
    own.home.mkdir(parents=True)
    (own.home / "mlflow.db").write_text("no database " * 1000)
    with pytest.raises(ServiceUnavailable) as caught:
        own.up("tracking")
    assert str(caught.value).startswith(
        "tracking (MLflow, runs and models) died while it started; "
    )
    assert "file is not a database" in str(caught.value)
    assert processes_of(own) == []
    assert not (own.home / "stack.env").exists()


def test_after_a_killed_process_manager_the_next_start_clears_up(own: Stack) -> None:
    own.up("events")
    before = processes_of(own)
    psutil.Process(int((own.home / "supervisord.pid").read_text())).kill()

    own.up("objects")

    assert not any(process.is_running() for process in before)
    assert {s.name for s in own.status() if s.state == "ready"} == {"objects"}
    own.down()
    assert processes_of(own) == []


SCRIPT = """
import signal, sys
from pathlib import Path
from hearloop.stack import Ports, Stack

class Small(Stack):
    def up(self, *names):
        super().up("objects")

# As a terminal starts it: one in the background has Ctrl-C ignored, one under nohup SIGHUP.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with Small(Path(sys.argv[1]), ports=Ports.free()):
    print("up", flush=True)
    if sys.argv[2] == "error":
        raise ValueError("on purpose")
    signal.pause()
"""


@pytest.mark.parametrize("end", ["SIGTERM", "SIGHUP", "SIGINT", "error"])
def test_it_goes_down_with_the_block_that_it_served(tmp_path: Path, end: str) -> None:
    home = tmp_path / "stack"
    command = [sys.executable, "-c", SCRIPT, str(home), end]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "up\n"
        served = processes_of(Stack(home))
        assert served != []
        if end != "error":
            script.send_signal(getattr(signal, end))
        try:
            script.communicate(timeout=60)
        finally:
            script.kill()
    status = {"SIGTERM": 143, "SIGHUP": 129, "SIGINT": -signal.SIGINT, "error": 1}
    assert script.returncode == status[end]
    assert not any(process.is_running() for process in served)
    assert processes_of(Stack(home)) == []


def test_whoever_was_given_its_environment_ends_with_it(own: Stack) -> None:
    own.up("objects")
    user = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.pause()"],
        env={**os.environ, **own.environment},
    )
    process = psutil.Process(user.pid)
    try:
        own.down()
        assert not process.is_running()
    finally:
        user.kill()
        user.wait()


STOP = """
import sys
from pathlib import Path
from hearloop.stack import Stack

Stack(Path(sys.argv[1])).down()
"""


def test_who_was_given_its_environment_can_stop_it(own: Stack) -> None:
    own.up("objects")
    ended = subprocess.run(
        [sys.executable, "-c", STOP, str(own.home)], env={**os.environ, **own.environment}
    )
    assert ended.returncode == 0
    assert processes_of(own) == []


def test_stopping_what_does_not_run_is_no_error(own: Stack) -> None:
    own.down()
    assert {service.state for service in own.status()} == {"stopped"}


def test_a_home_with_a_long_path_works_too(tmp_path: Path) -> None:
    stack = Stack(tmp_path / ("long" * 30), ports=Ports.free())
    try:
        stack.up("objects")
        assert S3Objects(stack.settings).exists(f"s3://{stack.settings.buckets.audio}/no") is False
    finally:
        stack.down()
    assert processes_of(stack) == []
