import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from hearloop import cli
from hearloop.config import Settings
from hearloop.errors import ConfigurationError, ServiceUnavailable
from hearloop.storage.databases import create_databases
from hearloop.storage.objects import S3Objects

PATIENCE_SECONDS = 30.0


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
    assert CliRunner().invoke(cli.app, ["prepare", "buckets", "topics"]).exit_code == 0
    store = S3Objects(broker)
    store.put("s3://prepared-artifacts/kept", b"")
    assert CliRunner().invoke(cli.app, ["prepare", "buckets", "topics"]).exit_code == 0
    assert store.exists("s3://prepared-artifacts/kept")
    admin = AdminClient({"bootstrap.servers": broker.kafka.bootstrap_servers})
    topics = admin.list_topics(timeout=10.0).topics
    assert {"prepared.transcriptions", "prepared.corrections"} <= topics.keys()


@pytest.fixture
def postgres() -> Iterator[str]:
    """URL of an empty Postgres server that listens on a socket in a folder only."""
    initdb = shutil.which("initdb")
    if initdb is None or shutil.which("postgres") is None:
        pytest.skip("Postgres is not installed: apt-get install postgresql")
    user = 65534 if os.getuid() == 0 else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="hearloop-postgres-"))  # sockets have short names
    folder.chmod(0o777)
    data = ["-D", str(folder / "data")]
    subprocess.run([initdb, *data, "-U", "hearloop", "-A", "trust"], user=user, check=True)
    command = ["postgres", *data, "-k", str(folder), "-c", "listen_addresses="]
    with subprocess.Popen(command, user=user) as process:
        try:
            url = f"postgresql+psycopg://hearloop@/postgres?host={folder}"
            wait_until(lambda: answers(url))
            yield url
        finally:
            process.terminate()
    shutil.rmtree(folder)


def answers(url: str) -> bool:
    try:
        create_databases(url, [])
    except ServiceUnavailable:
        return False
    return True


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "Postgres did not start"
        time.sleep(0.05)


def test_databases_are_made_and_kept(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARLOOP_DATABASE_URL", postgres)
    for _ in range(2):
        assert CliRunner().invoke(cli.app, ["prepare", "databases"]).exit_code == 0
    engine = create_engine(postgres)
    with engine.connect() as connection:
        names = set(connection.scalars(text("SELECT datname FROM pg_database")))
    engine.dispose()
    assert {"mlflow", "feast"} <= names


def test_a_file_has_no_room_for_a_second_database() -> None:
    with pytest.raises(ConfigurationError, match="sqlite"):
        create_databases("sqlite:///hearloop.db")
