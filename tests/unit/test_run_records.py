import json
from pathlib import Path
from typing import Any

import pytest

from hearloop.errors import ConfigurationError, NotFound
from hearloop.run_records import MARK, Record, RunRecords, step, summary
from hearloop.testing import InMemoryObjects


@pytest.fixture
def records() -> RunRecords:
    return RunRecords(InMemoryObjects(), "artifacts", "run-1")


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = capsys.readouterr().out.splitlines()
    return [json.loads(line.removeprefix(MARK)) for line in lines if line.startswith(MARK)]


def test_a_step_that_is_done_is_found_done_by_the_next_try(
    records: RunRecords, capsys: pytest.CaptureFixture[str]
) -> None:
    with step("train", records, snapshot="abc") as work:
        assert work.earlier is None
        work.done("bundle", learnt=0.5)
    with step("train", records, snapshot="abc") as again:
        assert again.earlier is not None
        assert again.output == "bundle"

    messages = told(capsys)
    assert [message["state"] for message in messages] == ["began", "done"] * 2
    assert [message["said"] for message in messages] == ["", "", "", "done by an earlier try"]


def test_other_arguments_are_other_work(records: RunRecords) -> None:
    with step("train", records, snapshot="abc") as work:
        work.done("bundle")
    with step("train", records, snapshot="abd") as work:
        assert work.earlier is None
    with step("train", RunRecords(InMemoryObjects(), "artifacts", "run-2"), snapshot="abc") as work:
        assert work.earlier is None


def test_a_step_that_fails_tells_its_sentence_and_is_not_done(
    records: RunRecords, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigurationError), step("train", records):
        raise ConfigurationError("There is no champion; run synthetic first.")
    with pytest.raises(ZeroDivisionError), step("judge", records):
        _ = 1 / 0

    assert records.all() == []
    failures = [message for message in told(capsys) if message["state"] == "failed"]
    assert [message["said"] for message in failures] == [
        "There is no champion; run synthetic first.",
        "The step judge failed: ZeroDivisionError: division by zero",
    ]


def test_what_was_pinned_first_stays_and_is_not_asked_again(records: RunRecords) -> None:
    assert records.pinned("champion", lambda: "3") == "3"
    assert records.pinned("champion", pytest.fail) == "3"
    assert records.pinned("empty", lambda: "") == ""
    assert records.pinned("empty", pytest.fail) == ""


def test_the_summary_has_the_seconds_and_facts_of_each_step(records: RunRecords) -> None:
    records.write(
        Record(step="ingest", given="x", output="abc", seconds=2.5, facts={"snapshot": "abc"})
    )
    records.write(
        Record(step="judge", given="y", output="hold", seconds=1.0, facts={"verdict": "reject"})
    )

    assert summary(records, "retrain") == {
        "run_id": "run-1",
        "recipe": "retrain",
        "snapshot": "abc",
        "verdict": "reject",
        "seconds": {"ingest": 2.5, "judge": 1.0},
        "ingest": {"snapshot": "abc"},
        "judge": {"verdict": "reject"},
    }


def test_files_are_kept_with_the_run(records: RunRecords, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "index.html").write_text("<p>")
    (tmp_path / "deep" / "a.css").write_text("p {}")

    records.keep_folder("data_docs", tmp_path)

    assert records.kept("data_docs/index.html") == b"<p>"
    assert records.kept("data_docs/deep/a.css") == b"p {}"
    with pytest.raises(NotFound):
        records.kept("data_docs/b.css")


def test_facts_of_a_step_that_has_not_ended_are_not_there(records: RunRecords) -> None:
    with pytest.raises(NotFound, match="judge of run run-1 has not ended"):
        records.facts("judge")
