import json

import pytest

from hearloop.errors import IntegrityError
from hearloop.lineage import CorrectionRange, DatasetUse, Lineage


def use(context: str, corrections: CorrectionRange | None = None) -> DatasetUse:
    return DatasetUse(
        context=context,
        snapshot="a" * 64,
        uri="s3://bucket/snapshots/a",
        utterances=10,
        seconds=25.5,
        corrections=corrections,
        metrics={"wer": 0.25},
    )


def lineage(version: str, parent: Lineage | None = None) -> Lineage:
    return Lineage(
        version=version,
        bundle="b" * 64,
        run_id="run",
        datasets=(
            use("train", CorrectionRange(first=3, last=9, ids=("c3", "c9"))),
            use("dev"),
            use("golden"),
        ),
        parent=parent,
    )


def test_a_record_comes_back_with_its_version_and_parent() -> None:
    whole = lineage("2", parent=lineage("1"))
    assert Lineage.from_record(whole.record(), version="2", parent=lineage("1")) == whole


def test_a_record_knows_neither_version_nor_parent() -> None:
    assert lineage("2", parent=lineage("1")).record() == lineage("7").record()


def test_what_was_only_judged_on_was_not_learnt_from() -> None:
    assert [each.context for each in lineage("1").learnt_from] == ["train", "dev"]


def test_json_goes_back_to_the_first_model() -> None:
    body = json.loads(lineage("3", lineage("2", lineage("1"))).to_json())
    assert body["parent"]["parent"]["version"] == "1"
    assert body["datasets"][0]["corrections"]["ids"] == ["c3", "c9"]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"version": 1}', b"\xff"])
def test_a_damaged_record_is_refused(body: bytes) -> None:
    with pytest.raises(IntegrityError, match="lineage of version 4"):
        Lineage.from_record(body, version="4", parent=None)
