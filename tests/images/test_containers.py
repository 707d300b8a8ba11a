"""The images run confined, answer, and stop: the server, the monitor and the functions together.

The services that they talk to are the embedded stack's.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import httpx
import pytest
import yaml

from hearloop import composition
from hearloop.audio import encode_flac
from hearloop.config import Settings
from hearloop.lineage import DatasetUse
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from hearloop.rollout.http import HttpRouter
from pipelines import recipes
from tests.bundles import noise, write_random_bundle
from tests.images.building import Builder
from tests.images.containers import Container, running, said
from tests.images.daemon import ROOT, Docker
from tests.images.layers import differences, digests

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

FLAC = encode_flac(noise(2.0, seed=5))
ROUTE = "/openai/v1/audio/transcriptions"
READY_SECONDS = 90.0
LARGEST_SERVING_BYTES = 600 * 10**6

GOLDEN = ROOT / "tests" / "contract" / "golden" / "continuous_learning.yaml"


def until(condition: Callable[[], bool], container: Container) -> None:
    """Wait for a condition; fail with the log of a container that has ended."""
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        assert container.state["Running"], container.log
        assert time.monotonic() < deadline, container.log
        time.sleep(0.2)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def settings(tracking: Settings) -> Settings:
    """The stack's, with a model, ports and a disk of the containers' own."""
    return tracking.model_copy(
        update={
            "model_name": f"model-{uuid4().hex[:8]}",
            "database_url": "sqlite:////tmp/hearloop.db",
            "cache": Path("/tmp/hearloop"),
            "serving_url": f"http://127.0.0.1:{free_port()}",
            "monitor_url": f"http://127.0.0.1:{free_port()}",
        }
    )


@dataclass
class Served:
    """The server's container, and the same model outside of it."""

    container: Container
    url: str
    version: str
    recogniser: Recogniser


@pytest.fixture(scope="module")
def served(
    docker: Docker,
    serving_image: str,
    settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    registry = composition.registry(settings)
    bundle = write_random_bundle(tmp_path_factory.mktemp("bundle"), 1)
    use = DatasetUse(context="train", snapshot="a" * 64, uri="s3://x/y", utterances=1, seconds=1.0)
    version = registry.register(bundle, run_id=registry.run(uuid4().hex), datasets=[use])
    port = settings.serving_url.rpartition(":")[2]
    command = ["python", "-m", "serving", "--http_host=0.0.0.0", f"--http_port={port}"]
    with running(docker, serving_image, settings.to_environment(), command=command) as container:
        until(lambda: answers(f"{settings.serving_url}/v2/health/live"), container)
        HttpRouter(settings.serving_url).write(Traffic(stable=version))
        yield Served(container, settings.serving_url, version, Recogniser.load(bundle))


def test_the_server_transcribes_as_the_library_does(served: Served) -> None:
    answer = httpx.post(served.url + ROUTE, files={"file": FLAC}, timeout=60)

    assert answer.status_code == 200, answer.text
    assert answer.json()["model_version"] == served.version
    assert answer.json()["text"] == served.recogniser.transcribe(noise(2.0, seed=5)).text != ""


def test_the_server_has_neither_root_nor_a_disk_to_write_to(served: Served) -> None:
    assert served.container.run("id", "-u").strip() == "10001"
    refused = served.container.run("touch", "/srv/hearloop/here", check=False)
    assert "Read-only file system" in refused
    status = served.container.run("cat", "/proc/1/status")
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status


def test_the_server_s_image_is_small_and_carries_no_torch(
    docker: Docker, serving_image: str
) -> None:
    size = int(docker("image", "inspect", "--format", "{{.Size}}", serving_image).stdout)
    packages = said(docker, serving_image, "ls", "/opt/hearloop/lib/python3.11/site-packages")

    assert size < LARGEST_SERVING_BYTES, f"{size / 1e6:.0f} MB"
    assert not {"torch", "lhotse", "scipy", "pip"} & set(packages.split())
    assert "onnxruntime" in packages.split()


class RuntimeApi(BaseHTTPRequestHandler):
    """The part of AWS's Lambda Runtime API (2018-06-01) that a runtime client calls."""

    events: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    over: threading.Event

    def do_GET(self) -> None:
        while not self.events:
            if self.over.wait(0.05):
                return
        body = json.dumps(self.events.pop(0)).encode()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", uuid4().hex)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + 300) * 1000)))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:x:1:function:f")
        self.send_header("Lambda-Runtime-Trace-Id", "Root=1-0-0;Sampled=0")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answers.append({"path": self.path, "body": body})
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def runtime_api() -> Iterator[str]:
    RuntimeApi.events, RuntimeApi.answers, RuntimeApi.over = [], [], threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), RuntimeApi)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    RuntimeApi.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def notification(bucket: str, key: str) -> dict[str, Any]:
    """As S3 sends it through SQS."""
    landed = {"bucket": {"name": bucket}, "object": {"key": key, "size": len(FLAC)}}
    body = {"Records": [{"eventName": "ObjectCreated:Put", "s3": landed}]}
    record = {"eventSource": "aws:sqs", "messageId": key, "body": json.dumps(body)}
    return {"Records": [record]}


def test_the_function_has_an_object_transcribed_by_the_server(
    docker: Docker, functions_image: str, settings: Settings, served: Served, runtime_api: str
) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=settings.s3.endpoint_url,
        region_name=settings.s3.region,
        aws_access_key_id=settings.s3.access_key_id,
        aws_secret_access_key=settings.s3.secret_access_key.get_secret_value(),
    )
    bucket, name = settings.buckets.audio, f"{uuid4().hex}.flac"
    s3.put_object(Bucket=bucket, Key=f"incoming/{name}", Body=FLAC)
    RuntimeApi.events = [notification(bucket, f"incoming/{name}"), {"no": "event"}]
    environment = settings.to_environment() | {"AWS_LAMBDA_RUNTIME_API": runtime_api}

    with running(docker, functions_image, environment) as container:
        until(lambda: len(RuntimeApi.answers) == 2, container)

    done, refused = RuntimeApi.answers
    assert done["path"].endswith("/response")
    assert done["body"] == {"batchItemFailures": [], "outcomes": {"transcribed": 1}}
    assert refused["path"].endswith("/error")
    assert refused["body"]["errorType"] == "InvalidInput"
    written = json.load(s3.get_object(Bucket=bucket, Key=f"transcripts/{name}.json")["Body"])
    assert written["text"] == served.recogniser.transcribe(noise(2.0, seed=5)).text


def test_the_monitor_watches_and_carries_the_reviewed_pipeline(
    docker: Docker, builder: Builder, settings: Settings, broker: Settings, tmp_path: Path
) -> None:
    image = builder.build("monitor")
    recipe = tmp_path / "recipe.json"
    recipe.write_text(recipes.retrain().to_json())
    tmp_path.chmod(0o755)
    port = settings.monitor_url.rpartition(":")[2]
    command = ["python", "-m", "monitoring", "--recipe=/etc/hearloop/recipe.json", f"--port={port}"]
    mounted = ["--volume", f"{tmp_path}:/etc/hearloop:ro"]
    environment = settings.model_copy(update={"kafka": broker.kafka}).to_environment()

    with running(docker, image, environment, options=mounted, command=command) as container:
        until(lambda: answers(f"{settings.monitor_url}/healthz"), container)
        assert httpx.get(f"{settings.monitor_url}/v1/status").json()["errors"] == 0
        carried = container.run("cat", "pipelines/continuous_learning.yaml")
        assert container.stop() == 0, container.log

    pipelines = [next(yaml.safe_load_all(text)) for text in (carried, GOLDEN.read_text())]
    for found in pipelines:
        found.pop("sdkVersion")
    assert pipelines[0] == pipelines[1]


def test_the_server_ends_when_it_is_told_to(served: Served) -> None:
    assert served.container.stop() == 0, served.container.log


@pytest.mark.parametrize("name", ["functions", "monitor", "serving"])
def test_a_second_build_without_the_cache_gives_the_same_layers(
    docker: Docker, builder: Builder, name: str, tmp_path: Path
) -> None:
    first = builder.build(name)
    again = builder.build(name, "--no-cache", tag=f"hearloop/{name}:again")
    assert len(digests(docker, first)) == 5
    assert differences(docker, first, again, tmp_path) == {}
    docker("image", "rm", again)
