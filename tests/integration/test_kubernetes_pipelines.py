"""Launching pipelines on a KFP server that fails: one run of a name, whatever is lost."""

import json
import threading
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from hearloop.errors import ServiceUnavailable
from hearloop.launchers import KfpLauncher

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:kfp", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # kfp leaves its connections open
]


class Kfp(ThreadingHTTPServer):
    """KFP's API for runs. Each entry of `faults` spoils the next call: a status, `cut` (nothing
    happens) or `lost` (it happens, and the answer does not come)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: list[dict[str, Any]] = []
        self.faults: deque[str] = deque()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Kfp

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.endswith("/runs"):
            (predicate,) = json.loads(parse_qs(url.query)["filter"][0])["predicates"]
            name = predicate["stringValue"]
            found = [run for run in self.server.runs if run["display_name"] == name]
            self._answer({"runs": found}, spoilt=True)
        elif url.path.endswith("/experiments"):
            self._answer({"experiments": [{"experiment_id": "e1", "display_name": "hearloop"}]})
        else:
            self._answer({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        happens = not self.server.faults or self.server.faults[0] in ("", "lost")
        if happens:
            self.server.runs.append(body | {"run_id": "r", "state": "PENDING"})
        self._answer(body, spoilt=True)

    def _answer(self, body: dict[str, Any], spoilt: bool = False) -> None:
        fault = self.server.faults.popleft() if spoilt and self.server.faults else ""
        if fault in ("cut", "lost"):
            self.connection.shutdown(2)
            return
        data = json.dumps({"error": "etcd is away"} if fault else body).encode()
        self.send_response(int(fault or 200))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def kfp() -> Iterator[Kfp]:
    server = Kfp()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def package() -> Path:
    """The pipeline as it is compiled and reviewed."""
    return Path(__file__).parents[1] / "contract" / "golden" / "continuous_learning.yaml"


@pytest.mark.parametrize("fault", ["500", "503", "lost"])
def test_a_launch_that_fails_may_be_repeated(kfp: Kfp, package: Path, fault: str) -> None:
    launcher = KfpLauncher(kfp.url, package, service_account="hearloop-pipeline")
    assert launcher.status("retrain-1") == "unknown"
    kfp.runs.clear()
    kfp.faults.extend(["", fault])
    with pytest.raises(ServiceUnavailable, match="create_run_from_pipeline_package"):
        launcher.launch("retrain-1", "{}")
    launcher.launch("retrain-1", "{}")
    (run,) = kfp.runs
    assert (run["display_name"], run["service_account"]) == ("retrain-1", "hearloop-pipeline")
    assert launcher.status("retrain-1") == "running"


def test_a_server_that_cannot_list_starts_nothing(kfp: Kfp, package: Path) -> None:
    launcher = KfpLauncher(kfp.url, package)
    kfp.faults.append("500")
    with pytest.raises(ServiceUnavailable, match="list_runs"):
        launcher.launch("retrain-1", "{}")
    assert kfp.runs == []
