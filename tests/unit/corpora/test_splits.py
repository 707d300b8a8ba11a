from collections import Counter

import pytest

from hearloop.corpora.splits import split_of


def test_shares_are_kept() -> None:
    counts = Counter(split_of(f"s{number}", dev=0.1, test=0.35) for number in range(4_000))
    assert counts["dev"] / 4_000 == pytest.approx(0.1, abs=0.02)
    assert counts["test"] / 4_000 == pytest.approx(0.35, abs=0.03)


def test_whoever_was_tested_on_is_never_trained_on_when_the_test_share_grows() -> None:
    for number in range(500):
        if split_of(f"s{number}", dev=0.1, test=0.2) == "test":
            assert split_of(f"s{number}", dev=0.1, test=0.35) == "test"


def test_a_share_of_nothing_is_empty() -> None:
    assert {split_of(f"s{number}", dev=0.0, test=0.0) for number in range(200)} == {"train"}
