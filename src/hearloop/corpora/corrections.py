"""Utterances that people corrected, with the audio that the server kept."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from hearloop.corpora.splits import split_of
from hearloop.corpora.utterance import Rejected, Utterance
from hearloop.corrections import Correction, Ruling, Status
from hearloop.errors import NotFound
from hearloop.ports import ObjectStore
from hearloop.recipe import CorrectionsCorpus

__all__ = ["CorrectionStore", "utterances"]

_UNTOUCHED = "the hypothesis was left as it was, so there is nothing to learn from it"
_UNSCREENED = "it has not been screened yet"


class CorrectionStore(Protocol):
    """What the corpus needs of the store of corrections."""

    def list(
        self,
        *,
        after: int = 0,
        up_to: int | None = None,
        statuses: Collection[Status] | None = None,
    ) -> Sequence[Correction]:
        """Corrections with `after` < sequence <= `up_to`, in sequence order."""

    def screen(self, *, after: int = 0, up_to: int | None = None) -> Mapping[str, Ruling]:
        """Rule on the corrections of the range together and store what became of each."""


def utterances(
    corpus: CorrectionsCorpus, *, store: CorrectionStore, objects: ObjectStore
) -> Iterator[Utterance | Rejected]:
    """Accepted corrections as utterances, the others with the reason why they are left out.

    Split by speaker where one is known and by call otherwise, so that whoever is tested on is
    not trained on.
    """
    given = store.list(after=corpus.after, up_to=corpus.up_to)
    rulings = {one.id: Ruling(status=one.status, reason=one.reason) for one in given}
    if corpus.screened:
        # What this call ruled, whatever somebody else stores of the same corrections meanwhile.
        rulings |= store.screen(after=corpus.after, up_to=corpus.up_to)
    taken = {"accepted"} if corpus.screened else {"accepted", "quarantined", "waiting"}
    for correction in given:
        name, ruling = f"correction-{correction.id}", rulings[correction.id]
        if ruling.status not in taken:
            said_nothing = _UNTOUCHED if ruling.status == "confirmed" else _UNSCREENED
            yield Rejected(id=name, reason=f"{ruling.status}: {ruling.reason or said_nothing}")
            continue
        try:
            audio = objects.get(correction.audio_uri)
        except NotFound as error:
            yield Rejected(id=name, reason=str(error))
            continue
        speaker = correction.speaker or correction.call
        yield Utterance(
            id=name,
            audio=audio,
            text=correction.text,
            speaker=speaker,
            split=split_of(f"corrections/{speaker}", dev=corpus.dev_share, test=corpus.test_share),
            recorded_at=datetime.fromisoformat(correction.received_at),
            call=correction.call,
            contributor=correction.contributor,
            correction=correction.id,
        )
