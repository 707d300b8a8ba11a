"""Objects land in a bucket whose notifications reach the function; a real model server answers.

moto is the bucket, the queues and EventBridge: it sends S3's own notifications. The model server
keeps what it answered in the embedded stack, as for every caller.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from hearloop import composition
from hearloop.audio import encode_flac
from hearloop.config import Settings
from hearloop.errors import InvalidInput, ServiceUnavailable
from hearloop.feedback import request_uri
from hearloop.lineage import DatasetUse
from hearloop.rollout import Traffic
from hearloop.rollout.http import HttpRouter
from serving.functions import handler
from tests.bundles import noise, write_random_bundle

pytestmark = pytest.mark.stack

FLAC = encode_flac(noise(1.0))
READY_SECONDS = 60.0


@pytest.fixture(scope="module")
def settings(tracking: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The stack's settings with a model and a database of the test's own."""
    home = tmp_path_factory.mktemp("functions")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return tracking.model_copy(
        update={
            "model_name": f"model-{uuid4().hex[:8]}",
            "database_url": f"sqlite:///{home}/hearloop.db",
            "cache": home / "cache",
            "serving_url": f"http://127.0.0.1:{port}",
        }
    )


@pytest.fixture(scope="module")
def model_server(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a model server with a model in service."""
    registry = composition.registry(settings)
    use = DatasetUse(context="train", snapshot="a" * 64, uri="s3://x/y", utterances=1, seconds=1.0)
    bundle = write_random_bundle(tmp_path_factory.mktemp("bundle"), 1)
    version = registry.register(bundle, run_id=registry.run(uuid4().hex), datasets=[use])
    log = tmp_path_factory.mktemp("log") / "serving.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving"],
            env=os.environ | settings.to_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(settings.serving_url, process, log)
        HttpRouter(settings.serving_url).write(Traffic(stable=version))
        yield settings.serving_url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/v2/health/live", timeout=1).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@dataclass
class Cloud:
    """A bucket of moto's, and two queues that its notifications reach."""

    url: str
    bucket: str

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def put(self, key: str, body: bytes) -> None:
        self.client("s3").put_object(Bucket=self.bucket, Key=key, Body=body)

    def json(self, key: str) -> dict[str, Any]:
        body = self.client("s3").get_object(Bucket=self.bucket, Key=key)["Body"].read()
        found: dict[str, Any] = json.loads(body)
        return found

    def keys(self, prefix: str) -> list[str]:
        found = self.client("s3").list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [one["Key"] for one in found.get("Contents", [])]

    def delivered(self, queue: str) -> dict[str, Any]:
        """What waits in a queue, as Lambda's poller hands it to the function; it is taken out."""
        sqs = self.client("sqs")
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        records = []
        while got := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for one in got:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
                source = {"eventSource": "aws:sqs", "messageId": one["MessageId"]}
                records.append(source | {"body": one["Body"]})
        return {"Records": records}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    one = Cloud(f"http://{host}:{port}", f"calls-{uuid4().hex[:8]}")
    queues = {}
    for name in ("notified", "bridged"):
        url = one.client("sqs").create_queue(QueueName=name)["QueueUrl"]
        found = one.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        queues[name] = found["Attributes"]["QueueArn"]
    one.client("events").put_rule(Name="landed", EventPattern=json.dumps({"source": ["aws.s3"]}))
    one.client("events").put_targets(
        Rule="landed", Targets=[{"Id": "queue", "Arn": queues["bridged"]}]
    )
    one.client("s3").create_bucket(Bucket=one.bucket)
    only_incoming = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "incoming/"}]}}
    one.client("s3").put_bucket_notification_configuration(
        Bucket=one.bucket,
        NotificationConfiguration={
            "QueueConfigurations": [
                {
                    "QueueArn": queues["notified"],
                    "Events": ["s3:ObjectCreated:*"],
                    "Filter": only_incoming,
                }
            ],
            "EventBridgeConfiguration": {},
        },
    )
    yield one
    server.stop()


@pytest.fixture
def lambda_environment(
    cloud: Cloud, model_server: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.MonkeyPatch]:
    """What Terraform gives the function, here with moto's bucket."""
    monkeypatch.setenv("HEARLOOP_S3__ENDPOINT_URL", cloud.url)
    monkeypatch.setenv("HEARLOOP_S3__ACCESS_KEY_ID", "test")
    monkeypatch.setenv("HEARLOOP_S3__SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("HEARLOOP_SERVING_URL", model_server)
    handler._forget()
    yield monkeypatch
    handler._forget()


@pytest.fixture(autouse=True)
def empty(cloud: Cloud, lambda_environment: pytest.MonkeyPatch) -> None:
    """No messages and no objects of an earlier test."""
    for key in cloud.keys(""):
        cloud.client("s3").delete_object(Bucket=cloud.bucket, Key=key)
    for queue in ("notified", "bridged"):
        cloud.delivered(queue)


def test_an_object_that_lands_is_transcribed_and_taken_into_the_loop(
    cloud: Cloud, settings: Settings
) -> None:
    cloud.put("incoming/monday/call 1+2.flac", FLAC)
    event = cloud.delivered("notified")

    assert handler.handle(event, None) == {"batchItemFailures": [], "outcomes": {"transcribed": 1}}

    written = cloud.json("transcripts/monday/call 1+2.flac.json")
    assert written["text"]
    assert written["words"][0]["word"] == written["text"].split()[0]
    assert written["object"] == f"s3://{cloud.bucket}/incoming/monday/call 1+2.flac"
    record = request_uri(settings.buckets.audio, written["request_id"])
    stored = logged(composition.objects(settings), record)
    assert stored["text"] == written["text"]
    assert composition.objects(settings).exists(stored["audio_uri"])


def logged(objects: Any, uri: str) -> dict[str, Any]:
    """The server's record of a request; it writes it behind the answer."""
    deadline = time.monotonic() + 20
    while not objects.exists(uri):
        assert time.monotonic() < deadline, f"no {uri}"
        time.sleep(0.05)
    found: dict[str, Any] = json.loads(objects.get(uri))
    return found


def test_an_event_that_comes_again_changes_nothing(cloud: Cloud) -> None:
    cloud.put("incoming/twice.flac", FLAC)
    event = cloud.delivered("notified")
    handler.handle(event, None)
    before = cloud.client("s3").head_object(Bucket=cloud.bucket, Key="transcripts/twice.flac.json")

    again = handler.handle({"Records": event["Records"] * 2}, None)

    assert again["outcomes"] == {"already transcribed": 2}
    after = cloud.client("s3").head_object(Bucket=cloud.bucket, Key="transcripts/twice.flac.json")
    assert after["LastModified"] == before["LastModified"]


def test_event_bridge_tells_the_same(cloud: Cloud) -> None:
    cloud.put("incoming/bridge é+.flac", FLAC)

    answer = handler.handle(cloud.delivered("bridged"), None)

    assert answer["batchItemFailures"] == []
    assert cloud.keys("transcripts/") == ["transcripts/bridge é+.flac.json"]


def test_what_the_function_writes_does_not_call_it_again(cloud: Cloud) -> None:
    cloud.put("incoming/one.flac", FLAC)
    handler.handle(cloud.delivered("notified"), None)

    assert cloud.delivered("notified") == {"Records": []}
    by_bridge = cloud.delivered("bridged")  # it has no filter here: the function has its own
    assert set(handler.handle(by_bridge, None)["outcomes"]) == {"already transcribed", "not ours"}


def test_poison_is_quarantined_and_holds_nobody_up(cloud: Cloud) -> None:
    cloud.put("incoming/poison.wav", b"RIFF\x00\x00 this is no speech")
    cloud.put("incoming/speech.flac", FLAC)

    answer = handler.handle(cloud.delivered("notified"), None)

    assert answer == {
        "batchItemFailures": [],
        "outcomes": {"quarantined": 1, "transcribed": 1},
    }
    reason = cloud.json("quarantine/poison.wav.json")["reason"]
    assert reason.startswith("The recording begins with 52494646")
    assert cloud.keys("transcripts/") == ["transcripts/speech.flac.json"]


def test_only_messages_that_failed_come_again(
    cloud: Cloud, lambda_environment: pytest.MonkeyPatch
) -> None:
    cloud.put("incoming/done.flac", FLAC)
    handler.handle(first := cloud.delivered("notified"), None)
    cloud.put("incoming/later.flac", FLAC)
    second = cloud.delivered("notified")
    lambda_environment.setenv("HEARLOOP_SERVING_URL", "http://127.0.0.1:9")  # nobody is there
    handler._forget()
    foreign = {"eventSource": "aws:sqs", "messageId": "foreign", "body": "{}"}

    answer = handler.handle({"Records": [*first["Records"], *second["Records"], foreign]}, None)

    (record,) = second["Records"]
    failed = [one["itemIdentifier"] for one in answer["batchItemFailures"]]
    assert failed == [record["messageId"], "foreign"]
    assert answer["outcomes"] == {"already transcribed": 1}


def test_an_event_that_came_straight_fails_as_a_whole(
    cloud: Cloud, lambda_environment: pytest.MonkeyPatch
) -> None:
    cloud.put("incoming/straight.flac", FLAC)
    (record,) = cloud.delivered("notified")["Records"]
    straight = json.loads(record["body"])
    lambda_environment.setenv("HEARLOOP_SERVING_URL", "http://127.0.0.1:9")
    handler._forget()

    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9.*straight\.flac"):
        handler.handle(straight, None)
    with pytest.raises(InvalidInput, match="neither a notification of S3"):
        handler.handle({"hello": "world"}, None)
