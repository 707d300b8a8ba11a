"""A Kubernetes API server for custom resources, in this process, with faults on demand.

It keeps objects as the real one does: a version for each write, generations for changed specs,
conflicts for writes of what has changed meanwhile, lists and watches from a version on (streamed in
chunks, told as ADDED, MODIFIED and DELETED), status apart from spec. The official client talks to
it over HTTP. `fail` makes the next calls of a verb go wrong.
"""

import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client

Resource = dict[str, Any]
Key = tuple[str, str]
"""Plural and name."""


class Refused(Exception):
    """A Status other than success."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


@dataclass
class Event:
    """One entry of the API's history."""

    version: int
    kind: str
    key: Key
    resource: Resource


@dataclass
class Store:
    """What etcd keeps, and the controllers that react to it."""

    objects: dict[Key, Resource] = field(default_factory=dict)
    history: list[Event] = field(default_factory=list)
    version: int = 100
    forgotten: int = 0
    """Watches from versions below this one are refused: they are too old."""
    changed: threading.Condition = field(
        default_factory=lambda: threading.Condition(threading.RLock())
    )
    admit: Callable[[Resource], None] = lambda resource: None
    """Raises Refused for an object that a webhook would refuse."""

    def write(self, key: Key, resource: Resource, kind: str) -> Resource:
        with self.changed:
            self.version += 1
            resource["metadata"]["resourceVersion"] = str(self.version)
            if kind == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = resource
            self.history.append(Event(self.version, kind, key, deepcopy(resource)))
            self.changed.notify_all()
            return deepcopy(resource)

    def create(self, key: Key, resource: Resource) -> Resource:
        with self.changed:
            if key in self.objects:
                raise Refused(409, "AlreadyExists", f'{key[0]} "{key[1]}" already exists')
            self.admit(resource)
            resource["metadata"] |= {"uid": f"uid-{self.version}", "generation": 1}
            resource.pop("status", None)
            return self.write(key, resource, "ADDED")

    def replace(self, key: Key, resource: Resource) -> Resource:
        with self.changed:
            there = self.read(key)
            if resource["metadata"].get("resourceVersion") != there["metadata"]["resourceVersion"]:
                raise Refused(
                    409, "Conflict", "the object has been modified; please apply your changes"
                )
            self.admit(resource)
            generation = there["metadata"]["generation"] + (resource["spec"] != there["spec"])
            resource["metadata"]["generation"] = generation
            if "status" in there:
                resource["status"] = there["status"]
            return self.write(key, resource, "MODIFIED")

    def set_status(self, key: Key, **status: Any) -> None:
        """What a controller does: write the status and nothing else."""
        with self.changed:
            there = self.read(key)
            there["status"] = {**there.get("status", {}), **status}
            self.write(key, there, "MODIFIED")

    def touch(self, key: Key) -> None:
        """Change an object as somebody else would, so that its version moves on."""
        with self.changed:
            there = self.read(key)
            marks = there["metadata"].setdefault("labels", {})
            marks["touched"] = str(self.version)
            self.write(key, there, "MODIFIED")

    def delete(self, key: Key) -> Resource:
        with self.changed:
            return self.write(key, self.read(key), "DELETED")

    def read(self, key: Key) -> Resource:
        with self.changed:
            if key not in self.objects:
                raise Refused(404, "NotFound", f'{key[0]} "{key[1]}" not found')
            return deepcopy(self.objects[key])


class KubernetesApi(ThreadingHTTPServer):
    """The server. `calls` counts what was asked, by verb; faults count too."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store = Store()
        self.calls: dict[str, int] = defaultdict(int)
        self._faults: dict[str, deque[str]] = defaultdict(deque)
        self.ending = False

    def fail(self, verb: str, *faults: str) -> None:
        """The next calls of `verb` (get, list, create, replace, delete, watch) go wrong, one each:

        a status such as `500`; `429`, which asks for a second's patience; `cut`: the connection
        ends without an answer; `lost`: what was asked is done and the connection ends; `touched`:
        somebody else writes the object first; `expired`: the watch is told that its version is too
        old; `broken`: the watch ends in the middle of an event.
        """
        self._faults[verb].extend(faults)

    def fault(self, verb: str) -> str:
        self.calls[verb] += 1
        return self._faults[verb].popleft() if self._faults[verb] else ""

    def client(self) -> client.ApiClient:
        """The official client of this server."""
        address = f"http://127.0.0.1:{self.server_address[1]}"
        return client.ApiClient(client.Configuration(host=address))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours."""


@contextmanager
def kubernetes_api() -> Iterator[KubernetesApi]:
    """A running server on a free port."""
    server = KubernetesApi()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.ending = True
        with server.store.changed:
            server.store.changed.notify_all()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: KubernetesApi
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        plural, name, query = self._asked()
        if name:
            self._carry_out("get", (plural, name), lambda key: self.server.store.read(key))
        elif query.get("watch") == "True":
            self._watch(plural, query)
        else:
            self._carry_out("list", (plural, ""), lambda _: self._listed(plural, query))

    def do_POST(self) -> None:
        plural, _, _ = self._asked()
        body = self._body()
        key = (plural, body["metadata"]["name"])
        self._carry_out("create", key, lambda key: self.server.store.create(key, body))

    def do_PUT(self) -> None:
        plural, name, _ = self._asked()
        body = self._body()
        key = (plural, name)
        self._carry_out("replace", key, lambda key: self.server.store.replace(key, body))

    def do_DELETE(self) -> None:
        plural, name, _ = self._asked()
        self._body()
        self._carry_out("delete", (plural, name), lambda key: self.server.store.delete(key))

    def _carry_out(self, verb: str, key: Key, act: Callable[[Key], Resource]) -> None:
        fault = self.server.fault(verb)
        if fault == "cut":
            self._cut()
            return
        if fault.isdigit():
            self._answer(int(fault), _status(int(fault), "InternalError", "etcd is away"))
            return
        if fault == "touched":
            self.server.store.touch(key)
        try:
            code, body = (201 if verb == "create" else 200), act(key)
        except Refused as refused:
            code, body = refused.code, _status(refused.code, refused.reason, str(refused))
        if fault == "lost":
            self._cut()
        else:
            self._answer(code, body)

    def _listed(self, plural: str, query: dict[str, str]) -> Resource:
        store = self.server.store
        with store.changed:
            items = [deepcopy(one) for key, one in store.objects.items() if key[0] == plural]
            chosen = [one for one in items if _fits(one, query)]
            return {
                "kind": "List",
                "metadata": {"resourceVersion": str(store.version)},
                "items": chosen,
            }

    def _watch(self, plural: str, query: dict[str, str]) -> None:
        fault = self.server.fault("watch")
        if fault == "cut":
            self._cut()
            return
        if fault.isdigit():
            self._answer(int(fault), _status(int(fault), "InternalError", "etcd is away"))
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        seen = int(query["resourceVersion"])
        if fault == "expired" or seen < self.server.store.forgotten:
            gone = _status(410, "Expired", f"too old resource version: {seen}")
            self._chunk({"type": "ERROR", "object": gone})
            self._chunk(None)
            return
        self._stream(plural, query, seen, broken=fault == "broken")

    def _stream(self, plural: str, query: dict[str, str], seen: int, broken: bool) -> None:
        store, end = self.server.store, time.monotonic() + float(query["timeoutSeconds"])
        while True:
            with store.changed:
                news = [one for one in store.history if one.version > seen and one.key[0] == plural]
                if not news:
                    left = end - time.monotonic()
                    if left <= 0 or self.server.ending:
                        break
                    store.changed.wait(left)
                    continue
            for event in news:
                seen = event.version
                if not _fits(event.resource, query):
                    continue
                if broken:
                    self.wfile.write(b'400\r\n{"type": "MODIF')
                    self._cut()
                    return
                self._chunk({"type": event.kind, "object": event.resource})
        self._chunk(None)

    def _chunk(self, body: Resource | None) -> None:
        data = b"" if body is None else json.dumps(body).encode() + b"\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _answer(self, code: int, body: Resource) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if code == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(data)

    def _cut(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)

    def _asked(self) -> tuple[str, str, dict[str, str]]:
        url = urlsplit(self.path)
        # /apis/<group>/<version>/namespaces/<namespace>/<plural>[/<name>]
        plural, _, name = url.path.split("/", 6)[6].partition("/")
        return plural, name, {key: value[0] for key, value in parse_qs(url.query).items()}

    def _body(self) -> Resource:
        read: Resource = json.loads(
            self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}"
        )
        return read

    def log_message(self, format: str, *args: object) -> None:
        pass


def _fits(resource: Resource, query: dict[str, str]) -> bool:
    wanted = query.get("fieldSelector", "").removeprefix("metadata.name=")
    if wanted and resource["metadata"]["name"] != wanted:
        return False
    label, _, value = query.get("labelSelector", "").partition("=")
    return not label or resource["metadata"].get("labels", {}).get(label) == value


def _status(code: int, reason: str, message: str) -> Resource:
    return {
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }
