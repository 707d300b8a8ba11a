"""The page on personal data names every place, and what it says to type finds a person."""

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from sqlalchemy import create_engine, text

from hearloop.config import Settings
from hearloop.events import Transcription
from hearloop.feedback import request_uri
from hearloop.retention import KEPT_DAYS
from hearloop.storage import corrections, reviews
from serving.functions import transcription as uploads
from tests.deploy import hcl

PAGE = Path("docs/operate/personal-data.md").read_text(encoding="utf-8")
TOPICS = Path("k8s/components/kafka-topics/topics.yaml")
BLOCKS = re.findall(r"^```\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
DAY = 24 * 3600 * 1000  # milliseconds
PERSONAL = {"call", "speaker", "contributor", "claimed_by", "text"}
"""Columns and fields that say who spoke, or what."""


def test_every_topic_and_table_with_people_in_it_is_named() -> None:
    topics = {each["spec"]["topicName"] for each in yaml.safe_load_all(TOPICS.read_text())}
    tables = {
        table.name
        for metadata in {corrections.CORRECTIONS.metadata, reviews.REVIEWS.metadata}
        for table in metadata.tables.values()
        if PERSONAL & set(table.columns.keys())
    }
    assert tables >= {"corrections", "reviews"}
    folders = {uploads.INCOMING, uploads.TRANSCRIPTS, uploads.QUARANTINE}
    assert {name for name in topics | tables | folders if f"`{name}`" not in PAGE} == set()


@pytest.mark.parametrize(
    ("topic", "milliseconds", "said"),
    [
        ("hearloop.transcriptions", 14 * DAY, "14 days"),
        ("hearloop.calls.audio", DAY, "a day; a week"),
        ("hearloop.calls.transcripts", 7 * DAY, "a day; a week"),
        ("hearloop.corrections", -1, "both without end"),
    ],
)
def test_topics_are_kept_as_long_as_it_says(topic: str, milliseconds: int, said: str) -> None:
    topics = (each["spec"] for each in yaml.safe_load_all(TOPICS.read_text()))
    (config,) = (each["config"] for each in topics if each["topicName"] == topic)
    assert int(config["retention.ms"]) == milliseconds
    (row,) = (line for line in PAGE.splitlines() if line.startswith("|") and f"`{topic}`" in line)
    assert f"| {said} |" in row


def test_the_bucket_keeps_audio_as_long_as_a_tenant_may_have_it() -> None:
    retention = hcl.variable("modules/storage/variables.tf", "retention_days")["default"]
    assert retention["audio"] == KEPT_DAYS
    assert str(KEPT_DAYS) in PAGE


@mock_aws
def test_the_search_of_objects_finds_a_speaker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"HEARLOOP_S3__{name}", "")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "moto")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "moto")
    bucket = Settings().buckets.audio
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket=bucket)
    for speaker in ("anna", "bob"):
        key = request_uri(bucket, f"of-{speaker}").removeprefix(f"s3://{bucket}/")
        client.put_object(Bucket=bucket, Key=key, Body=json.dumps(record(speaker)))
    (program,) = re.findall(r"<<'END'\n(.*?)^END", BLOCKS[0], flags=re.MULTILINE | re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program.replace("the speaker or the call", "anna"), {})
    assert printed.getvalue().splitlines() == [
        f"{request_uri(bucket, 'of-anna')} s3://{bucket}/audio/anna.flac"
    ]


def test_the_queries_are_queries() -> None:
    engine = create_engine("sqlite://")
    for metadata in {corrections.CORRECTIONS.metadata, reviews.REVIEWS.metadata}:
        metadata.create_all(engine)
    queries = [line for line in BLOCKS[1].splitlines() if line.startswith("SELECT")]
    assert len(queries) == 2
    with engine.connect() as connection:
        for query in queries:
            assert connection.execute(text(query)).all() == []


def record(speaker: str) -> dict[str, Any]:
    return Transcription(
        event_id="e",
        request_id=f"of-{speaker}",
        call="c",
        speaker=speaker,
        model_version="1",
        audio_uri=f"s3://{Settings().buckets.audio}/audio/{speaker}.flac",
        audio_seconds=1.0,
        text="hello",
        confidence=0.9,
        words=1,
        received_at="2031-05-04T03:02:01+00:00",
    ).to_json()
