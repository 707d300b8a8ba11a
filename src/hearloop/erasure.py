"""A person's speech and words: found wherever Hearloop keeps them, and erased.

    >>> places = Places(objects=…, audio="hearloop-audio", snapshots="hearloop-snapshots", …)
    >>> held = find(Person(speaker="anna"), places)
    >>> held.requests, held.versions
    (('r1', 'r2'), ('4',))
    >>> erase(held, places)

What is found is found anew by each call, and what leads to the rest goes last: an erasure that was
killed is finished by the next one. A snapshot is never changed. One that holds the person is stored
again without them, as a snapshot of its own; under the old name only that of the new one is left,
so that a retrain that begins from an older model goes on without the person.

Models are not changed either: `versions` are those that learnt from what is erased.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hearloop.corrections import Correction
from hearloop.datasets import CutRow, open_snapshot, successor_uri, write_snapshot
from hearloop.events import Transcription
from hearloop.feedback import request_uri
from hearloop.lineage import Lineage
from hearloop.ports import DecisionLog, ObjectStore

__all__ = ["Held", "HeldCuts", "Person", "Places", "erase", "find"]


@dataclass(frozen=True, kw_only=True)
class Person:
    """Whom to look for: by one of the names that callers' systems send, or by single requests."""

    speaker: str | None = None
    call: str | None = None
    requests: frozenset[str] = frozenset()
    tenant: str | None = None
    """Whose caller it is; None takes that speaker and call of every tenant."""

    def said(self, one: Transcription) -> bool:
        """Whether an answered utterance is theirs."""
        if one.request_id in self.requests:
            return True
        return self.tenant in (None, one.tenant) and self.named(one.speaker, one.call)

    def named(self, speaker: str | None, call: str | None) -> bool:
        """Whether either is a name of theirs."""
        names = (speaker, self.speaker), (call, self.call)
        return any(wanted is not None and given == wanted for given, wanted in names)


class Corrections(Protocol):
    """The store of corrections."""

    def of_person(
        self, *, speaker: str | None, call: str | None, requests: Collection[str]
    ) -> Sequence[Correction]:
        """Corrections of what this speaker said, in this call, or in these requests."""

    def empty(self, correction_ids: Collection[str]) -> None:
        """Erase all that these corrections say."""


class Reviews(Protocol):
    """What waits for review."""

    def of_person(
        self, *, speaker: str | None, call: str | None, requests: Collection[str]
    ) -> Sequence[str]:
        """Ids of the requests that wait or waited."""

    def remove(self, request_ids: Collection[str]) -> None:
        """Forget utterances, and who skipped them."""


class Models(Protocol):
    """The registry."""

    def versions(self) -> Sequence[str]:
        """Every version, oldest first."""

    def lineage(self, version: str) -> Lineage:
        """What a version learnt from."""


class Features(Protocol):
    """The quality features of utterances."""

    def forget(self, snapshot: str, utterances: Collection[str], *, successor: str) -> None:
        """Leave rows of the other utterances alone, for the snapshot's `successor` too."""


class Words(Protocol):
    """Words of speakers."""

    def forget(self, tenant: str, speaker: str) -> None:
        """Leave nothing of a speaker."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where people's speech and words are kept. audio, snapshots, artifacts: names of buckets."""

    objects: ObjectStore
    audio: str
    snapshots: str
    artifacts: str
    corrections: Corrections
    reviews: Reviews
    models: Models
    features: Features
    words: Words | None
    decisions: DecisionLog


@dataclass(frozen=True, kw_only=True)
class HeldCuts:
    """A snapshot that holds the person. audio: of no utterance of anybody else's."""

    snapshot: str
    utterances: tuple[str, ...]
    sources: tuple[str, ...]
    """Kinds of the corpora that they come from."""
    audio: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Held:
    """What is kept of a person. requests: ids; objects: URIs in the bucket of audio."""

    requests: tuple[str, ...]
    objects: tuple[str, ...]
    shared: tuple[str, ...]
    """Recordings that other people's requests name as well, byte for byte: they stay."""
    corrections: tuple[str, ...]
    reviews: tuple[str, ...]
    words: tuple[tuple[str, str], ...]
    """Tenant and speaker."""
    snapshots: tuple[HeldCuts, ...]
    versions: tuple[str, ...]
    """Models that learnt from it, by themselves or through the one that they began from."""

    def __bool__(self) -> bool:
        """Whether there is anything that can be erased; words are emptied in any case."""
        return any((self.requests, self.objects, self.corrections, self.reviews, self.snapshots))


def find(person: Person, places: Places) -> Held:
    """Look everywhere. Reads every request record and the cuts of every snapshot."""
    answered = list(_answered(places))
    theirs = [one for one in answered if person.said(one)]
    requests = {one.request_id for one in theirs} | person.requests
    others = {one.request_id for one in answered} - requests
    # A row whose request is gone by its retention can be of any tenant: it is erased.
    found = places.corrections.of_person(
        speaker=person.speaker, call=person.call, requests=requests
    )
    corrections = [one for one in found if one.request_id not in others]
    not_theirs = {one.id for one in found if one.request_id in others}
    reviews = places.reviews.of_person(speaker=person.speaker, call=person.call, requests=requests)
    heard = {one.audio_uri for one in theirs} | {one.audio_uri for one in corrections}
    shared = heard & {one.audio_uri for one in answered if one.request_id in others}
    ids = {one.id for one in corrections}
    digests, left_behind = _stored(places)
    snapshots = tuple(_cuts(person, ids, not_theirs, digests, places))
    return Held(
        requests=tuple(sorted({one.request_id for one in theirs})),
        objects=(*left_behind, *_objects(theirs, heard - shared, places)),
        shared=tuple(sorted(shared)),
        corrections=tuple(one.id for one in corrections),
        reviews=tuple(one for one in reviews if one not in others),
        words=_words(person, theirs),
        snapshots=snapshots,
        versions=tuple(_learners({one.snapshot for one in snapshots}, ids, places.models)),
    )


def erase(held: Held, places: Places) -> dict[str, str]:
    """Erase what was found, and note that it was; returns each snapshot's successor.

    The note tells how much it was, of which snapshots and what models learnt from it, and names
    nobody.
    """
    successors = {one.snapshot: _withdraw(one, held.corrections, places) for one in held.snapshots}
    for uri in held.objects:
        places.objects.erase(uri)
    places.reviews.remove(held.reviews)
    places.corrections.empty(held.corrections)
    if places.words is not None:
        for tenant, speaker in held.words:
            places.words.forget(tenant, speaker)
    if held:
        _note(held, successors, places.decisions)
    return successors


def _answered(places: Places) -> Iterator[Transcription]:
    for uri in places.objects.list(request_uri(places.audio, "").removesuffix(".json")):
        yield Transcription.from_json(json.loads(places.objects.get(uri)))


def _objects(
    theirs: Sequence[Transcription], recordings: Collection[str], places: Places
) -> Iterator[str]:
    """What of the audio bucket goes; the records, which lead to the rest, come last."""
    requests, folder = {one.request_id for one in theirs}, f"s3://{places.audio}/"
    for uri in places.objects.list(f"{folder}transcripts/"):
        transcript = json.loads(places.objects.get(uri))
        if transcript["request_id"] in requests:
            yield from (transcript["object"], uri)
    for uri in sorted(recordings):
        if places.objects.exists(uri):
            yield uri
            yield from places.objects.list(f"{folder}expiry/shared/{uri.rsplit('/', 1)[1]}/")
    for uri in places.objects.list(f"{folder}expiry/days/"):
        if uri.rsplit("/", 1)[1].removesuffix(".json") in requests:
            yield uri
    yield from (request_uri(places.audio, request_id) for request_id in sorted(requests))


def _words(person: Person, theirs: Sequence[Transcription]) -> tuple[tuple[str, str], ...]:
    if person.speaker is None:
        return ()
    tenants = {one.tenant for one in theirs if one.speaker == person.speaker}
    return tuple((tenant, person.speaker) for tenant in sorted(tenants | {person.tenant or ""}))


def _cuts(
    person: Person,
    corrections: Collection[str],
    not_theirs: Collection[str],
    digests: Sequence[str],
    places: Places,
) -> Iterator[HeldCuts]:
    """Those of the snapshots that hold the person, by name, call or correction."""

    def is_theirs(row: CutRow) -> bool:
        if row.correction in corrections:
            return True
        return row.correction not in not_theirs and person.named(row.speaker, row.call)

    opened = (open_snapshot(each, places.objects, places.snapshots) for each in digests)
    snapshots = {one.digest: one.rows() for one in opened}
    kept = {row.audio_uri for rows in snapshots.values() for row in rows if not is_theirs(row)}
    for digest, rows in snapshots.items():
        found = [row for row in rows if is_theirs(row)]
        if found:
            yield HeldCuts(
                snapshot=digest,
                utterances=tuple(row.id for row in found),
                sources=tuple(sorted({row.source for row in found})),
                audio=tuple(sorted({row.audio_uri for row in found} - kept)),
            )


def _stored(places: Places) -> tuple[list[str], list[str]]:
    """Digests of the snapshots, and files of those that have a successor.

    The files are what an erasure that was killed had yet to do.
    """
    uris = list(places.objects.list(f"s3://{places.snapshots}/snapshots/"))
    files = [uri.rsplit("/", 1) for uri in uris]
    replaced = {folder for folder, name in files if name == "successor"}
    whole = {folder for folder, name in files if name == "manifest.json"} - replaced
    left_behind = [
        f"{folder}/{name}" for folder, name in files if folder in replaced and name != "successor"
    ]
    return sorted(folder.rsplit("/", 1)[1] for folder in whole), left_behind


def _learners(
    snapshots: Collection[str], corrections: Collection[str], models: Models
) -> Iterator[str]:
    for version in models.versions():
        uses = [use for one in models.lineage(version).ancestors() for use in one.learnt_from]
        if any(
            use.snapshot in snapshots
            or (use.corrections and not set(corrections).isdisjoint(use.corrections.ids))
            for use in uses
        ):
            yield version


def _withdraw(cuts: HeldCuts, corrections: Collection[str], places: Places) -> str:
    """Store a snapshot without the person and leave of the old one its successor's digest."""
    objects, bucket = places.objects, places.snapshots
    old = open_snapshot(cuts.snapshot, objects, bucket)
    refused = {f"correction-{one}" for one in corrections}
    new = write_snapshot(
        [row for row in old.rows() if row.id not in cuts.utterances],
        [one for one in old.quarantine() if one.id not in refused],
        recipe=old.manifest["recipe"],
        objects=objects,
        bucket=bucket,
        language=old.manifest["language"],
        cleaning=old.manifest["cleaning"],
    )
    places.features.forget(old.digest, cuts.utterances, successor=new.digest)
    for made in (f"features/{old.digest}-", f"shar/{old.digest}/"):
        for uri in list(objects.list(f"s3://{places.artifacts}/{made}")):
            objects.erase(uri)
    for uri in cuts.audio:
        objects.erase(uri)
    # From here on the old one is no snapshot any more: what is left of it is left behind.
    objects.put(successor_uri(bucket, old.digest), new.digest.encode())
    for name in ("manifest.json", "cuts.jsonl.gz", "quarantine.jsonl"):
        objects.erase(f"{old.uri}/{name}")
    return new.digest


def _note(held: Held, successors: dict[str, str], decisions: DecisionLog) -> None:
    every = [*held.requests, *held.objects, *held.corrections, *held.reviews, *successors]
    identity = hashlib.sha256("\n".join(["erasure", *sorted(every)]).encode()).hexdigest()
    decisions.append(
        kind="erasure",
        subject=identity[:12],
        decision="erased",
        reason=f"a person's {len(held.requests)} requests and all that was made of them",
        evidence={
            "requests": len(held.requests),
            "objects": len(held.objects),
            "corrections": len(held.corrections),
            "reviews": len(held.reviews),
            "utterances": sum(len(one.utterances) for one in held.snapshots),
            "snapshots": successors,
            "learnt_by": list(held.versions),
        },
        identity=identity,
    )
