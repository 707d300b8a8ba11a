"""KFP's API for runs and schedules, that answers, fails and loses answers like the real one."""

import itertools
import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["Kfp", "kfp_api"]


class Kfp(ThreadingHTTPServer):
    """Each entry of `faults` spoils the next call for runs or schedules: a status, `cut` (nothing
    happens) or `lost` (it happens, and the answer does not come)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: list[dict[str, Any]] = []
        self.schedules: list[dict[str, Any]] = []
        self.numbers = itertools.count(1)
        self.faults: deque[str] = deque()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def kfp_api() -> Iterator[Kfp]:
    """The API, as long as the context lasts."""
    server = Kfp()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Kfp

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.endswith("/runs"):
            self._answer({"runs": _named(self.server.runs, url.query)}, spoilt=True)
        elif url.path.endswith("/recurringruns"):
            found = _named(self.server.schedules, url.query)
            self._answer({"recurringRuns": found}, spoilt=True)
        elif url.path.endswith("/experiments"):
            self._answer({"experiments": [{"experiment_id": "e1", "display_name": "hearloop"}]})
        else:
            self._answer({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._happens():
            number = str(next(self.server.numbers))
            if self.path.endswith("/recurringruns"):
                body["recurring_run_id"] = number
                self.server.schedules.append(body)
            else:
                body |= {"run_id": number, "state": "PENDING"}
                self.server.runs.append(body)
        self._answer(body, spoilt=True)

    def do_DELETE(self) -> None:
        if self._happens():
            number = self.path.rpartition("/")[2]
            kept = [one for one in self.server.schedules if one["recurring_run_id"] != number]
            self.server.schedules[:] = kept
        self._answer({}, spoilt=True)

    def _happens(self) -> bool:
        return not self.server.faults or self.server.faults[0] in ("", "lost")

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


def _named(known: list[dict[str, Any]], query: str) -> list[dict[str, Any]]:
    (predicate,) = json.loads(parse_qs(query)["filter"][0])["predicates"]
    return [one for one in known if one["display_name"] == predicate["stringValue"]]
