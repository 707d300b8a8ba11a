"""The page on personal data names every place, and its queries are queries."""

import re
from pathlib import Path

import pytest
import yaml
from sqlalchemy import create_engine, text

from hearloop.retention import KEPT_DAYS
from hearloop.storage import corrections, reviews
from serving.functions import transcription as uploads
from tests.deploy import hcl

PAGE = Path("docs/operate/personal-data.md").read_text(encoding="utf-8")
TOPICS = Path("k8s/components/kafka-topics/topics.yaml")
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


def test_the_queries_are_queries() -> None:
    engine = create_engine("sqlite://")
    for metadata in {corrections.CORRECTIONS.metadata, reviews.REVIEWS.metadata}:
        metadata.create_all(engine)
    queries = re.findall(r"^SELECT .*$", PAGE, flags=re.MULTILINE)
    assert len(queries) == 2
    with engine.connect() as connection:
        for query in queries:
            assert connection.execute(text(query)).all() == []
