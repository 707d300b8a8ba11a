from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hearloop.audio import encode_flac
from hearloop.corpora import Rejected, Utterance, utterances
from hearloop.corrections import Correction, Ruling, Status
from hearloop.errors import ConfigurationError
from hearloop.recipe import CorrectionsCorpus
from hearloop.testing import InMemoryObjects

URI = "s3://audio/audio/1.flac"


def _correction(sequence: int, status: Status = "accepted", **changes: object) -> Correction:
    fields: dict[str, object] = {
        "id": f"{sequence:064x}",
        "sequence": sequence,
        "request_id": f"r{sequence}",
        "call": f"call-{sequence}",
        "speaker": f"speaker-{sequence // 3}",
        "audio_uri": URI,
        "audio_seconds": 1.0,
        "hypothesis": "hello bear",
        "model_version": "1",
        "text": "hello there",
        "contributor": "ada",
        "received_at": "2024-05-01T12:00:00+00:00",
        "status": status,
    }
    return Correction(**{**fields, **changes})  # type: ignore[arg-type]


class Store:
    """Corrections in a list; `screen` accepts what waits, as the real one does by its rules."""

    def __init__(self, *corrections: Correction) -> None:
        self.corrections = corrections
        self.screened: list[tuple[int, int | None]] = []
        self.rulings: dict[str, Ruling] = {}

    def list(
        self,
        *,
        after: int = 0,
        up_to: int | None = None,
        statuses: Collection[Status] | None = None,
    ) -> Sequence[Correction]:
        return [
            one
            for one in self.corrections
            if after < one.sequence and (up_to is None or one.sequence <= up_to)
        ]

    def screen(self, *, after: int = 0, up_to: int | None = None) -> Mapping[str, Ruling]:
        self.screened.append((after, up_to))
        return self.rulings


def _read(store: Store | None, **corpus: object) -> list[Utterance | Rejected]:
    objects = InMemoryObjects()
    objects.put(URI, encode_flac(np.zeros(16_000, np.float32)))
    recipe = CorrectionsCorpus(**{"up_to": 1_000, **corpus})  # type: ignore[arg-type]
    return list(utterances(recipe, objects=objects, cache=Path(), corrections=store))


def test_an_accepted_correction_keeps_who_gave_it() -> None:
    (one,) = _read(Store(_correction(1)))
    assert isinstance(one, Utterance)
    assert (one.text, one.contributor, one.call) == ("hello there", "ada", "call-1")
    assert one.correction == _correction(1).id
    assert one.recorded_at.isoformat() == "2024-05-01T12:00:00+00:00"


def test_only_the_range_of_the_recipe_is_screened_and_read() -> None:
    store = Store(*(_correction(sequence) for sequence in range(1, 6)))
    found = _read(store, after=2, up_to=4)
    assert [one.id[-1] for one in found] == ["3", "4"]
    assert store.screened == [(2, 4)]


def test_what_is_left_out_says_why() -> None:
    store = Store(
        _correction(1, "quarantined", reason="contributor mallory"),
        _correction(2, "confirmed"),
        _correction(3, "rejected", reason="says the same"),
        _correction(4, audio_uri="s3://audio/audio/gone.flac"),
        _correction(5, "waiting"),
    )
    found = _read(store)
    reasons = [one.reason for one in found if isinstance(one, Rejected)]
    assert reasons[0] == "quarantined: contributor mallory"
    assert "nothing to learn" in reasons[1]
    assert reasons[2] == "rejected: says the same"
    assert "gone.flac" in reasons[3]
    assert reasons[4] == "waiting: it has not been screened yet"


def test_the_ruling_of_this_reading_counts_and_not_what_is_stored_meanwhile() -> None:
    store = Store(_correction(1, "quarantined"), _correction(2, "accepted"))
    store.rulings = {
        _correction(1).id: Ruling(status="accepted"),
        _correction(2).id: Ruling(status="quarantined", reason="contributor mallory"),
    }
    assert [type(one) for one in _read(store)] == [Utterance, Rejected]


def test_unscreened_quarantined_corrections_are_taken_too() -> None:
    store = Store(
        _correction(1, "quarantined"), _correction(2, "waiting"), _correction(3, "rejected")
    )
    found = _read(store, screened=False)
    assert [type(one) for one in found] == [Utterance, Utterance, Rejected]
    assert store.screened == []


@pytest.mark.parametrize("speakers_known", [True, False])
def test_whoever_is_tested_on_is_not_trained_on(speakers_known: bool) -> None:
    corrections = [_correction(sequence) for sequence in range(1, 301)]
    if not speakers_known:
        corrections = [replace(one, speaker=None) for one in corrections]
    found = _read(Store(*corrections))
    splits: dict[str, set[str]] = {}
    for one in found:
        assert isinstance(one, Utterance)
        splits.setdefault(one.speaker, set()).add(one.split)
    assert all(len(of_speaker) == 1 for of_speaker in splits.values())
    shares = [len([1 for of in splits.values() if of == {split}]) for split in ("dev", "test")]
    assert 0.03 < shares[0] / len(splits) < 0.2
    assert 0.15 < shares[1] / len(splits) < 0.35


def test_without_a_store_the_recipe_cannot_be_followed() -> None:
    with pytest.raises(ConfigurationError, match="no store"):
        _read(None)
