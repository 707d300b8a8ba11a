"""How well a version hears calls that nobody trained on: its WER with an interval by speakers."""

from collections.abc import Sequence

from demo.callers import Said
from hearloop.audio import decode, digest
from hearloop.recogniser import Recogniser
from hearloop.scores import Rate, rate
from hearloop.scoring import ScoredUtterance, answer

__all__ = ["judge"]

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0


def judge(
    recogniser: Recogniser, version: str, calls: Sequence[Sequence[Said]]
) -> tuple[Rate, list[ScoredUtterance]]:
    """Transcribe every utterance with the model as it is served, and count its errors."""
    said = [one for call in calls for one in call]
    heard = recogniser.transcribe_many([decode(one.audio).samples for one in said])
    scored = [
        ScoredUtterance(
            id=f"{one.call}/{number}",
            speaker=one.speaker,
            call=one.call,
            reference=one.reference,
            seconds=one.seconds,
            audio_uri="",
            audio_digest=digest(one.audio),
            slices={"accent": one.accent},
            answers={
                version: answer(one.reference, transcript.text, transcript.confidence),
            },
        )
        for number, (one, transcript) in enumerate(zip(said, heard, strict=True))
    ]
    interval = rate(scored, version, confidence=CONFIDENCE, resamples=RESAMPLES, seed=SEED)
    return interval, scored
