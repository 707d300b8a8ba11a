import pytest
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from hearloop import cli
from hearloop.config import Settings
from hearloop.storage.objects import S3Objects


@pytest.mark.stack
def test_buckets_and_topics_are_made_and_kept(
    broker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in broker.to_environment().items():
        monkeypatch.setenv(variable, value)
    for holds in ("AUDIO", "SNAPSHOTS", "ARTIFACTS", "EVENTS"):
        monkeypatch.setenv(f"HEARLOOP_BUCKETS__{holds}", f"prepared-{holds.lower()}")
    monkeypatch.setenv("HEARLOOP_KAFKA__TRANSCRIPTIONS_TOPIC", "prepared.transcriptions")
    monkeypatch.setenv("HEARLOOP_KAFKA__CORRECTIONS_TOPIC", "prepared.corrections")
    assert CliRunner().invoke(cli.app, ["prepare"]).exit_code == 0
    store = S3Objects(broker)
    store.put("s3://prepared-artifacts/kept", b"")
    assert CliRunner().invoke(cli.app, ["prepare"]).exit_code == 0
    assert store.exists("s3://prepared-artifacts/kept")
    admin = AdminClient({"bootstrap.servers": broker.kafka.bootstrap_servers})
    topics = admin.list_topics(timeout=10.0).topics
    assert {"prepared.transcriptions", "prepared.corrections"} <= topics.keys()
