"""Turn corpora into a snapshot: decode, check, encode, store, and quarantine what is bad.

>>> snapshot = ingest(recipe.corpora, objects=objects, settings=settings)
>>> snapshot.manifest["cuts"]["count"], snapshot.manifest["quarantine"]["count"]
(1650, 0)
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from hearloop import corpora as sources
from hearloop.audio import SAMPLE_RATE, Limits, decode, digest, encode_flac
from hearloop.cleaning import clean
from hearloop.config import Settings
from hearloop.corpora import CorrectionStore, Rejected, Utterance
from hearloop.datasets import (
    LONGEST_S,
    SHORTEST_S,
    CutRow,
    Quarantined,
    Snapshot,
    audio_uri,
    write_snapshot,
)
from hearloop.errors import InvalidAudio, InvalidInput, InvalidTranscript
from hearloop.ports import ObjectStore
from hearloop.quality import measure
from hearloop.recipe import Cleaning, Corpus
from hearloop.telemetry import Progress, Silent
from hearloop.text import language_of, normalise

__all__ = ["ingest"]

_WORKERS = 8
"""Threads: they wait for object storage, and decode and encode outside the interpreter's lock."""
_AHEAD = 64
"""Utterances in flight: a few MB of audio."""

_ID_DIGITS = 8
"""Digits of the audio's digest in an id: they tell apart what two corpora call the same."""

_JSON = TypeAdapter(Corpus)


def ingest(
    corpora: Sequence[Corpus],
    *,
    objects: ObjectStore,
    settings: Settings,
    corrections: CorrectionStore | None = None,
    progress: Progress | None = None,
    language: str = "en",
    cleaning: Cleaning | None = None,
) -> Snapshot:
    """Store the corpora as one snapshot; `progress` advances by one for each thing found.

    language: tag of the language that is spoken; what is said in another one is quarantined.
    cleaning: what is done to each recording; nothing where it is None.

    An id is that of the corpus and the beginning of the audio's digest, `utt1-5f0c93ab`, so that
    two recordings share none, in whatever snapshots they are.

    The same corpora give the same snapshot. An ingestion that was killed leaves no snapshot, and
    run again it ends as if nothing had happened. Raises InvalidTranscript for a
    language without rules of spelling, and what the corpora and the store raise;
    bad audio and text never stop it.
    """
    language_of(language)  # raises before anything is fetched
    watched, bucket = progress or Silent(), settings.buckets.snapshots
    rows: dict[str, CutRow] = {}
    quarantine: list[Quarantined] = []
    cleaned = cleaning or Cleaning()
    for corpus in corpora:
        found = sources.utterances(
            corpus, objects=objects, cache=settings.cache, corrections=corrections
        )
        names: set[str] = set()
        keeper = _Keeper(corpus.kind, language, cleaned, objects, bucket)
        for name, kept in _stored(found, keeper):
            if isinstance(kept, Quarantined):
                quarantine.append(kept)
            elif name in names or kept.id in rows:
                reason = f"The id {name} occurs before; give each utterance its own."
                quarantine.append(Quarantined(id=name, source=corpus.kind, reason=reason))
            else:
                names.add(name)
                rows[kept.id] = kept
            watched.advance()
    return write_snapshot(
        list(rows.values()),
        quarantine,
        recipe=[_JSON.dump_python(corpus, mode="json") for corpus in corpora],
        language=language,
        cleaning=asdict(cleaning) if cleaning else {},
        objects=objects,
        bucket=bucket,
    )


@dataclass(frozen=True)
class _Keeper:
    """Keeps what one corpus yields."""

    source: str
    language: str
    cleaning: Cleaning
    objects: ObjectStore
    bucket: str

    def keep(self, one: Utterance | Rejected) -> CutRow | Quarantined:
        if isinstance(one, Rejected):
            return Quarantined(id=one.id, source=self.source, reason=one.reason)
        try:
            return self._cut(one)
        except InvalidInput as error:
            return Quarantined(id=one.id, source=self.source, reason=str(error))

    def _cut(self, one: Utterance) -> CutRow:
        """Check an utterance and store its audio. Raises InvalidAudio or InvalidTranscript."""
        language = self._language(one)
        text = normalise(one.text, language)
        samples = clean(decode(one.audio, limits=Limits(seconds=LONGEST_S)).samples, self.cleaning)
        seconds = len(samples) / SAMPLE_RATE
        if seconds < SHORTEST_S:
            raise InvalidAudio(f"The recording lasts {seconds:.3f} s; no word is that short.")
        flac = encode_flac(samples)
        audio_digest = digest(flac)
        uri = audio_uri(self.bucket, audio_digest)
        self.objects.create(uri, flac, content_type="audio/flac")
        return CutRow(
            # Every corpus has its "utt1"; snapshots are joined by the ids of their utterances.
            id=f"{one.id}-{audio_digest[:_ID_DIGITS]}",
            split=one.split,
            text=text,
            speaker=one.speaker,
            call=one.call,
            accent=one.accent,
            language=language,
            source=self.source,
            contributor=one.contributor,
            correction=one.correction,
            recorded_at=one.recorded_at,
            seconds=seconds,
            sample_rate=SAMPLE_RATE,
            audio_digest=audio_digest,
            audio_uri=uri,
            quality=measure(samples),
        )

    def _language(self, one: Utterance) -> str:
        """That of the utterance, else that of the recipe. Raises InvalidTranscript."""
        if one.language is None:
            return self.language
        if language_of(one.language) != language_of(self.language):
            raise InvalidTranscript(
                f"The utterance is in {one.language!r} and the recipe in {self.language!r}; "
                "give each language a recipe of its own."
            )
        return one.language


def _stored(
    found: Iterable[Utterance | Rejected], keeper: _Keeper
) -> Iterator[tuple[str, CutRow | Quarantined]]:
    """Store what is found, several at a time and in order, beside what its corpus calls it."""
    waiting: deque[tuple[str, Future[CutRow | Quarantined]]] = deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        for one in found:
            waiting.append((one.id, pool.submit(keeper.keep, one)))
            if len(waiting) > _AHEAD:
                name, stored = waiting.popleft()
                yield name, stored.result()
        for name, stored in waiting:
            yield name, stored.result()
