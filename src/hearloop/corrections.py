"""Human corrections of transcripts, and which of them a model may learn from.

A correction that nobody checked can be wrong or hostile: training on clean labels that were
swapped works from 1.5 % of the data on (2409.08985). The check here needs no threshold on word
errors, so it holds when the model is at its worst, right after callers change: the deployed
recogniser scores the given text on the audio against *rivals*, texts of similar length that other
contributors gave to other audio. A text that was said beats nearly all of them. One that was not
said is just another rival: the share that it beats, its *support*, is uniform between 0 and 1
whatever the model's word error rate.

    >>> rulings = screen(corrections)
    >>> rulings[corrections[0].id]
    Ruling(status='accepted', reason='')
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from hearloop.errors import InvalidTranscript
from hearloop.events import Transcription
from hearloop.text import normalise

__all__ = [
    "Correction",
    "Evidence",
    "Ruling",
    "ScreeningPolicy",
    "Status",
    "contributor_support",
    "correct",
    "correction_id",
    "screen",
    "weigh",
]

Status = Literal["waiting", "accepted", "confirmed", "quarantined", "rejected"]
"""`waiting` has not been screened with evidence yet; `accepted` trains; `confirmed` left the
hypothesis as it was and only measures word errors; `quarantined` is in doubt; `rejected` repeats
another correction, or was replaced by its own contributor."""

LONGEST_TEXT = 2000
"""Characters of the longest text taken: 80 s of speech, more than any utterance of a call."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the deployed recogniser made of a text on its audio."""

    plausibility: float
    """Nats per character by which the text lies below the recogniser's own best path; <= 0."""
    rival_plausibility: float
    """The same, averaged over the rivals: about what a text scores that was not said."""
    support: float
    """Share of the rivals that the text beats (a tie is half a win): 0 to 1, higher is better."""
    rivals: int
    """How many rivals there were."""


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What one contributor says was said in one utterance."""

    id: str
    """SHA-256 of request, contributor and text: giving it twice is giving it once."""
    sequence: int
    """Place in the store's order of arrival, from 1; 0 before it is stored."""
    request_id: str
    call: str
    speaker: str | None
    audio_uri: str
    audio_seconds: float
    hypothesis: str
    """What the deployed model had answered."""
    model_version: str
    text: str
    """The correction, normalised."""
    contributor: str
    received_at: str
    """ISO 8601, UTC."""
    evidence: Evidence | None = None
    """None until the recogniser has weighed the text against enough rivals; weighed anew when
    there are plenty."""
    status: Status = "waiting"
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """The correction as JSON values, evidence nested."""
        fields = dict(self.__dict__)
        fields["evidence"] = None if self.evidence is None else dict(self.evidence.__dict__)
        return fields


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What becomes of a correction, and why."""

    status: Status
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ScreeningPolicy:
    """When a correction is believed."""

    maximum_share: float = 0.4
    """Of the accepted seconds, from any one contributor. At 0.4 no two contributors can train a
    model between them, and a team of three with even loads is not held back."""
    rivals: int = 32
    """Rivals that a text is weighed against: a wrong text beats all of them once in 33 times."""
    minimum_rivals: int = 10
    """Fewer than these and the correction waits: chance alone would beat them too often."""
    rivals_each: int = 5
    """Rivals from any one contributor: two others are enough to be weighed by, and whoever sends
    easy texts for a friend to beat brings them to a mean support of 0.75, not to 0.85."""
    utterance_support: float = 0.9
    """Support below which one correction is quarantined; a wrong one passes one time in ten,
    which is what `contributor_support` is for."""
    contributor_support: float = 0.85
    """Mean support over calls below which a whole contributor is quarantined. Wrong texts give
    0.5; what was said gave 0.97 or more to every contributor at a word error rate of 66 % and
    0.997 at 25 %; at 0.85 three in ten of the texts are wrong."""
    contributor_calls: int = 4
    """Calls with evidence before a contributor is judged as a whole: one bad line is no proof."""
    slowest: float = 0.5
    """Characters per second of audio: a short word in seven seconds of line noise."""
    fastest: float = 30.0
    """Characters per second of audio: twice the usual 15, and above the fastest clear speech."""


def correction_id(request_id: str, contributor: str, text: str) -> str:
    """SHA-256 (hex) that names what one contributor said of one request."""
    return hashlib.sha256(f"{request_id}|{contributor}|{text}".encode()).hexdigest()


def correct(
    transcription: Transcription,
    *,
    text: str,
    contributor: str,
    received_at: str,
    language: str = "en",
) -> Correction:
    """The correction of an answered utterance, before it is weighed and stored.

    language: tag of what was said.

    Raises InvalidTranscript when nothing of `text` can be a transcript.
    """
    if len(text) > LONGEST_TEXT:
        raise InvalidTranscript(
            f"The text has {len(text)} characters where {LONGEST_TEXT} are the most; "
            "correct one utterance at a time."
        )
    said = normalise(text, language)
    hypothesis = transcription.text.strip()
    return Correction(
        id=correction_id(transcription.request_id, contributor, said),
        sequence=0,
        request_id=transcription.request_id,
        call=transcription.call,
        speaker=transcription.speaker,
        audio_uri=transcription.audio_uri,
        audio_seconds=transcription.audio_seconds,
        hypothesis=hypothesis,
        model_version=transcription.model_version,
        text=said,
        contributor=contributor,
        received_at=received_at,
        status="confirmed" if said == hypothesis else "waiting",
    )


def weigh(plausibility: float, rivals: Sequence[float]) -> Evidence:
    """Compare a text's plausibility with its rivals' on the same audio (nats per character).

    The rank of one among its peers is the permutation test of the claim
    that it is no better than they are; its p-value is 1 - support, to within 1 / (rivals + 1).
    """
    if not rivals:
        raise ValueError("A text without rivals cannot be weighed.")
    wins = sum(1.0 if plausibility > rival else 0.5 for rival in rivals if plausibility >= rival)
    return Evidence(
        plausibility=plausibility,
        rival_plausibility=fmean(rivals),
        support=wins / len(rivals),
        rivals=len(rivals),
    )


def screen(
    corrections: Iterable[Correction], policy: ScreeningPolicy | None = None
) -> dict[str, Ruling]:
    """Rule on all corrections since the last training, together.

    The rules, in order; each sees only what the ones before it left standing:

    1. A contributor whose texts the audio does not support is quarantined as a whole.
    2. So is each text that is too long or too short for its audio, or that the audio does not
       support. One that has not been weighed waits; one equal to the hypothesis is confirmed.
    3. Of several texts by one contributor for the same audio the latest stands.
    4. Where contributors disagree about the same audio, the text that most of them gave stands,
       and of those who gave it the first; a tie leaves all in quarantine. A confirmation takes no
       part in the vote and yields to any correction.
    5. Nobody has more than `maximum_share` of the accepted seconds; the latest above it wait.

    The rulings depend on the set of corrections, not on their order.
    """
    policy = policy or ScreeningPolicy()
    ordered = sorted(corrections, key=lambda one: (one.received_at, one.id))
    suspects = _suspects(ordered, policy)
    rulings = {one.id: _ruling_alone(one, suspects, policy) for one in ordered}
    for same_audio in _by_audio(ordered):
        _settle_versions(same_audio, rulings)
        _settle_disagreement(same_audio, rulings)
    _hold_to_share(ordered, rulings, policy.maximum_share)
    return rulings


def contributor_support(corrections: Iterable[Correction]) -> dict[str, dict[str, float]]:
    """Mean support of each call with evidence, by contributor.

    Calls are the blocks: a bad line spoils all utterances of a call at once, so they count once.
    Confirmations are left out, for the hypothesis is the recogniser's own favourite.
    """
    supports: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in corrections:
        if one.evidence is not None and one.text != one.hypothesis:
            supports[one.contributor][one.call].append(one.evidence.support)
    return {
        contributor: {call: fmean(values) for call, values in calls.items()}
        for contributor, calls in supports.items()
    }


def _suspects(corrections: Sequence[Correction], policy: ScreeningPolicy) -> Mapping[str, str]:
    """Contributors who are quarantined as a whole, each with the reason."""
    weighed = [one for one in corrections if _weighed(one, policy)]
    suspects = {}
    for contributor, calls in contributor_support(weighed).items():
        mean = fmean(calls.values())
        if len(calls) >= policy.contributor_calls and mean < policy.contributor_support:
            suspects[contributor] = (
                f"contributor {contributor}: over {len(calls)} calls the audio prefers these "
                f"texts to {mean:.0%} of other people's, where chance gives 50% and what was said "
                f"at least {policy.contributor_support:.0%}"
            )
    return suspects


def _weighed(one: Correction, policy: ScreeningPolicy) -> bool:
    return one.evidence is not None and one.evidence.rivals >= policy.minimum_rivals


def _ruling_alone(one: Correction, suspects: Mapping[str, str], policy: ScreeningPolicy) -> Ruling:
    """The ruling that does not depend on other corrections of the same audio."""
    if one.contributor in suspects:
        return Ruling(status="quarantined", reason=suspects[one.contributor])
    if one.text == one.hypothesis:
        return Ruling(status="confirmed")
    rate = len(one.text) / one.audio_seconds if one.audio_seconds > 0 else float("inf")
    if not policy.slowest <= rate <= policy.fastest:
        return Ruling(
            status="quarantined",
            reason=f"{rate:.1f} characters per second of audio, outside {policy.slowest:g} to "
            f"{policy.fastest:g}",
        )
    if one.evidence is None or not _weighed(one, policy):
        return Ruling(status="waiting", reason="too few other texts to weigh it against yet")
    if one.evidence.support < policy.utterance_support:
        return Ruling(
            status="quarantined",
            reason=f"the audio prefers this text to only {one.evidence.support:.0%} of "
            f"{one.evidence.rivals} texts that were not said in it",
        )
    return Ruling(status="accepted")


def _by_audio(corrections: Iterable[Correction]) -> Iterable[list[Correction]]:
    groups: dict[str, list[Correction]] = defaultdict(list)
    for one in corrections:
        groups[one.audio_uri].append(one)
    return groups.values()


def _settle_versions(same_audio: Sequence[Correction], rulings: dict[str, Ruling]) -> None:
    """Reject what a contributor has since replaced by another text for the same audio."""
    latest: dict[str, Correction] = {}
    for one in reversed(same_audio):
        newer = latest.setdefault(one.contributor, one)
        if newer is not one:
            rulings[one.id] = Ruling(
                status="rejected", reason=f"replaced by {newer.id[:12]} of the same contributor"
            )


def _settle_disagreement(same_audio: Sequence[Correction], rulings: dict[str, Ruling]) -> None:
    """Let one accepted text of the same audio stand, or none when it is a tie."""
    accepted = [one for one in same_audio if rulings[one.id].status == "accepted"]
    if not accepted:
        return
    (text, votes), *others = Counter(one.text for one in accepted).most_common()
    tied = bool(others) and others[0][1] == votes
    standing = None if tied else next(one for one in accepted if one.text == text)
    for one in same_audio:
        status = rulings[one.id].status
        if one is standing or status not in ("accepted", "confirmed"):
            continue
        if standing is None or one.text != standing.text:
            rulings[one.id] = Ruling(status="quarantined", reason=_DISAGREES)
        elif status == "accepted":
            rulings[one.id] = Ruling(
                status="rejected", reason=f"says the same as {standing.id[:12]} of the same audio"
            )


_DISAGREES = "contributors disagree about this audio; the text that most of them give will stand"


def _hold_to_share(
    ordered: Sequence[Correction], rulings: dict[str, Ruling], maximum_share: float
) -> None:
    """Quarantine the latest corrections of whoever has more than the share of the seconds."""
    kept: dict[str, list[Correction]] = defaultdict(list)
    for one in ordered:
        if rulings[one.id].status == "accepted":
            kept[one.contributor].append(one)
    seconds = {who: sum(one.audio_seconds for one in kept[who]) for who in kept}
    while seconds:
        most = max(seconds, key=lambda who: (seconds[who], who))
        if seconds[most] <= maximum_share * sum(seconds.values()):
            return
        last = kept[most].pop()
        rulings[last.id] = Ruling(
            status="quarantined",
            reason=f"contributor {most} has given more than {maximum_share:.0%} of the seconds",
        )
        seconds[most] -= last.audio_seconds
        if not kept[most]:
            del seconds[most]
