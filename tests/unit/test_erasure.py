"""A person is erased everywhere, nobody else anywhere, and what was killed midway is finished."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hearloop import audio, cli, composition
from hearloop.config import Settings
from hearloop.corrections import correct
from hearloop.datasets import CutRow, Quarantined, audio_uri, open_snapshot, write_snapshot
from hearloop.erasure import Held, Person, Places, erase, find
from hearloop.errors import NotFound
from hearloop.events import Transcription
from hearloop.feature_store import FeatureStore, UtteranceQuality
from hearloop.feedback import request_uri
from hearloop.lineage import CorrectionRange, DatasetUse, Lineage
from hearloop.quality import Quality
from hearloop.retention import note_expiry, note_sharing
from hearloop.storage.corrections import SqlCorrectionStore
from hearloop.storage.reviews import SqlReviewStore
from hearloop.storage.tables import Decisions, engine
from hearloop.testing import InMemoryObjects
from serving.functions import transcription as uploads

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ANNA = Person(speaker="anna")


class Registry:
    """Version 1 learnt from speech of the snapshot, 2 from corrections, 3 from nothing of it."""

    def __init__(self) -> None:
        self.uses: dict[str, DatasetUse] = {}

    def versions(self) -> Sequence[str]:
        return sorted(self.uses)

    def lineage(self, version: str) -> Lineage:
        use = self.uses[version]
        return Lineage(version=version, bundle="b", run_id="r", datasets=(use,))


class Words:
    def __init__(self) -> None:
        self.forgotten: list[tuple[str, str]] = []

    def forget(self, tenant: str, speaker: str) -> None:
        self.forgotten.append((tenant, speaker))


class Killed(Exception):
    """In place of a process that is killed."""


class Mortal(InMemoryObjects):
    """Dies at the n-th change."""

    changes = 10**6

    def erase(self, uri: str) -> None:
        self._live()
        super().erase(uri)

    def put(self, uri: str, body: bytes, *, content_type: str = "") -> None:
        self._live()
        super().put(uri, body)

    def _live(self) -> None:
        self.changes -= 1
        if self.changes < 0:
            raise Killed


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    database = engine(Settings(database_url=f"sqlite:///{tmp_path}/hearloop.db"))
    objects = Mortal()
    yield Places(
        objects=objects,
        audio="audio",
        snapshots="snapshots",
        artifacts="artifacts",
        corrections=SqlCorrectionStore(database),
        reviews=SqlReviewStore(database),
        models=Registry(),
        features=FeatureStore(tmp_path / "feast", objects, "artifacts"),
        words=Words(),
        decisions=Decisions(database),
    )
    database.dispose()


def answer(
    places: Places, request: str, speaker: str, *, sound: str = "", tenant: str = ""
) -> Transcription:
    """An answered, kept, enrolled and corrected utterance."""
    uri = f"s3://audio/audio/{sound or request}.flac"
    one = Transcription(
        event_id=request,
        request_id=request,
        call=f"call-of-{speaker}",
        speaker=speaker,
        model_version="1",
        audio_uri=uri,
        audio_seconds=2.0,
        text="pay the bill",
        confidence=0.5,
        words=3,
        received_at=NOW.isoformat(),
        tenant=tenant,
    )
    record = request_uri("audio", request)
    note_expiry(
        places.objects, "audio", request, audio_uri=uri, record_uri=record, last_day=NOW.date()
    )
    if not places.objects.create(uri, b"sound"):
        note_sharing(places.objects, "audio", uri, NOW.date())
    places.objects.put(record, json.dumps(one.to_json()).encode())
    assert isinstance(places.reviews, SqlReviewStore)
    assert isinstance(places.corrections, SqlCorrectionStore)
    places.reviews.enrol([one])
    places.reviews.skip(request, "carl")
    told = correct(one, text=f"{speaker} pays", contributor="carl", received_at=one.received_at)
    places.corrections.add(told)
    return one


def cut(places: Places, name: str, speaker: str, correction: str | None = None) -> CutRow:
    flac = audio.encode_flac(np.full(8_000, (len(name) + len(speaker)) / 100, np.float32))
    uri = audio_uri("snapshots", audio.digest(flac))
    places.objects.put(uri, flac)
    return CutRow(
        id=name, split="train", text=f"{speaker} pays", speaker=speaker, call=None, accent=None,
        language="en", source="corrections" if correction else "folder", contributor=None,
        correction=correction, recorded_at=NOW, seconds=0.5, sample_rate=16_000,
        audio_digest=audio.digest(flac), audio_uri=uri,
        quality=Quality(duration_s=0.5, snr_db=9.0, bandwidth_hz=8e3, loudness_dbfs=-26.0,
                        clipping=0.0, silence=0.1),
    )  # fmt: skip


@pytest.fixture
def kept(places: Places) -> str:
    """Two people's speech in every place; returns the digest of the snapshot that has both."""
    for request, speaker in (("r1", "anna"), ("r2", "anna"), ("r3", "bob")):
        answer(places, request, speaker)
    name = f"{uploads.TRANSCRIPTS}note.wav.json"
    upload = f"s3://audio/{uploads.INCOMING}note.wav"
    places.objects.put(upload, b"sound")
    places.objects.put(
        f"s3://audio/{name}", json.dumps({"object": upload, "request_id": "r2"}).encode()
    )
    given = corrections_of(places, "anna")[0]
    rows = [cut(places, "one", "anna", given), cut(places, "two", "bob")]
    snapshot = write_snapshot(
        rows,
        [Quarantined(id=f"correction-{corrections_of(places, 'anna')[1]}", source="", reason="x")],
        recipe=[{"kind": "folder"}],
        objects=places.objects,
        bucket="snapshots",
    )
    assert isinstance(places.features, FeatureStore)
    assert isinstance(places.models, Registry)
    places.features.write(snapshot.digest, [UtteranceQuality.of(row) for row in rows])
    for made in (f"features/{snapshot.digest}-abc/shard", f"shar/{snapshot.digest}/train/cuts"):
        places.objects.put(f"s3://artifacts/{made}", b"speech")
    ids = CorrectionRange(first=1, last=3, ids=(given,))
    use = DatasetUse(context="train", snapshot=snapshot.digest, uri="", utterances=2, seconds=1.0)
    other = replace(use, snapshot="f" * 64)
    places.models.uses = {"1": use, "2": replace(other, corrections=ids), "3": other}
    return snapshot.digest


def corrections_of(places: Places, speaker: str) -> list[str]:
    found = places.corrections.of_person(speaker=speaker, call=None, requests=())
    return [one.id for one in found]


def everything(places: Places) -> str:
    """All that the buckets hold, names and bodies."""
    uris = [uri for name in ("audio", "snapshots", "artifacts") for uri in listed(places, name)]
    bodies = [places.objects.get(uri) for uri in uris]
    return "\n".join([*uris, *(body.decode(errors="replace") for body in bodies)])


def listed(places: Places, bucket: str) -> list[str]:
    return list(places.objects.list(f"s3://{bucket}/"))


def held_and_erased(places: Places, person: Person = ANNA) -> Held:
    held = find(person, places)
    erase(held, places)
    return held


def test_what_is_kept_is_found_in_every_place(places: Places, kept: str) -> None:
    held = find(ANNA, places)
    assert held.requests == held.reviews == ("r1", "r2")
    assert len(held.corrections) == 2
    assert held.versions == ("1", "2")
    (cuts,) = held.snapshots
    assert (cuts.snapshot, cuts.utterances, cuts.sources) == (kept, ("one",), ("corrections",))
    assert f"s3://audio/{uploads.INCOMING}note.wav" in held.objects
    assert find(ANNA, places) == held, "looking changes nothing"


def test_nothing_of_the_person_is_left_and_all_of_the_other(places: Places, kept: str) -> None:
    held = held_and_erased(places)
    assert not find(ANNA, places)
    assert [uri for uri in listed(places, "audio") if "expiry" not in uri] == [
        "s3://audio/audio/r3.flac",
        "s3://audio/requests/r3.json",
    ]
    assert "anna" not in everything(places)
    assert not any(uri in everything(places) for uri in (*held.objects, *held.snapshots[0].audio))
    assert find(Person(speaker="bob"), places).requests == ("r3",)
    assert len(corrections_of(places, "bob")) == 1
    assert isinstance(places.words, Words)
    assert places.words.forgotten == [("", "anna")]


def test_a_snapshot_goes_on_without_the_person_under_its_old_name(
    places: Places, kept: str
) -> None:
    held_and_erased(places)
    opened = open_snapshot(kept, places.objects, "snapshots")
    assert opened.digest != kept
    assert [row.id for row in opened.rows()] == ["two"]
    assert opened.quarantine() == []
    assert listed(places, "artifacts") == [
        f"s3://artifacts/quality/{digest}.parquet" for digest in sorted([kept, opened.digest])
    ]
    held_and_erased(places, Person(speaker="bob"))
    assert open_snapshot(kept, places.objects, "snapshots").rows() == []


def test_emptied_corrections_teach_nothing_and_keep_their_numbers(
    places: Places, kept: str
) -> None:
    held_and_erased(places)
    store = places.corrections
    assert isinstance(store, SqlCorrectionStore)
    assert [one.sequence for one in store.list()] == [1, 2, 3]
    emptied = store.list(up_to=2)
    said = {
        (one.text, one.hypothesis, one.speaker, one.contributor, one.model_version)
        for one in emptied
    }
    assert said == {("", "", None, "", "")}
    store.screen()
    assert not store.list(up_to=2, statuses=["accepted", "waiting"])
    assert {one.id for one in store.unweighed(32, 9)} == set(corrections_of(places, "bob"))
    assert store.rivals(replace(store.list()[2], contributor="eve", text="other"), 9, each=9) == []


def test_erasing_again_does_and_notes_nothing(places: Places, kept: str) -> None:
    held_and_erased(places)
    before = everything(places)
    assert not held_and_erased(places)
    assert everything(places) == before
    assert isinstance(places.decisions, Decisions)
    (note,) = places.decisions.list(kind="erasure")
    assert (note.evidence["requests"], note.evidence["learnt_by"]) == (2, ["1", "2"])
    assert list(note.evidence["snapshots"]) == [kept]
    assert "anna" not in f"{note}"


@pytest.mark.parametrize("changes", range(0, 19, 2))
def test_an_erasure_that_was_killed_is_finished(places: Places, kept: str, changes: int) -> None:
    objects = places.objects
    assert isinstance(objects, Mortal)
    objects.changes = changes
    with pytest.raises(Killed):
        held_and_erased(places)
    objects.changes = 10**6
    held_and_erased(places)
    assert not find(ANNA, places)
    assert "anna" not in everything(places)
    assert [row.id for row in open_snapshot(kept, objects, "snapshots").rows()] == ["two"]
    assert f"s3://artifacts/quality/{kept}.parquet" in listed(places, "artifacts")


def test_another_tenant_s_caller_of_that_name_stays(places: Places) -> None:
    answer(places, "theirs", "anna", tenant="acme")
    answer(places, "other", "anna", tenant="brand")
    held = held_and_erased(places, replace(ANNA, tenant="acme"))
    assert held.requests == held.reviews == ("theirs",)
    assert held.words == (("acme", "anna"),)
    assert find(ANNA, places).requests == ("other",)
    assert len(corrections_of(places, "anna")) == 1


def test_single_requests_and_calls_can_be_named(places: Places, kept: str) -> None:
    assert find(Person(requests=frozenset({"r1"})), places).requests == ("r1",)
    assert find(Person(requests=frozenset({"r1"})), places).words == ()
    assert find(Person(call="call-of-anna"), places).requests == ("r1", "r2")
    assert not find(Person(speaker="nobody"), places)


def test_a_recording_that_somebody_else_sent_too_stays_and_is_named(places: Places) -> None:
    answer(places, "hers", "anna", sound="same")
    answer(places, "his", "bob", sound="same")
    held = held_and_erased(places)
    assert held.shared == ("s3://audio/audio/same.flac",)
    assert places.objects.exists("s3://audio/audio/same.flac")
    assert not places.objects.exists(request_uri("audio", "hers"))


def test_a_snapshot_that_never_was_has_no_successor() -> None:
    with pytest.raises(NotFound, match="check its digest"):
        open_snapshot("0" * 64, InMemoryObjects(), "snapshots")


def test_the_command_lists_and_erases_only_when_told(
    places: Places, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composition, "places", lambda _: places)

    def told(*options: str) -> str:
        done = CliRunner().invoke(cli.app, ["erase", *options], catch_exceptions=False)
        return done.stdout

    first = told("--speaker", "anna")
    assert "request r1\n" in first
    assert "learnt from it: version 2\n" in first
    assert f"1 utterances (corrections) in snapshot {kept}\n" in first
    assert first.endswith("Nothing was changed; --delete erases it.\n")
    assert find(ANNA, places)
    assert f"snapshot {kept} is now " in told("--speaker", "anna", "--delete")
    assert not find(ANNA, places)
    assert told("--speaker", "anna", "--delete") == "Nothing was left to erase.\n"
    assert told("--speaker", "anna") == "Nothing is kept.\n"
    assert CliRunner().invoke(cli.app, ["erase", "--tenant", "acme"]).exit_code == 1
