"""What the champion's own speech looked like: the sample that live calls are compared with.

A reference is built from the utterances on which the champion was judged, by the same code that
measures live utterances, and travels as JSON beside the model. It holds values utterance by
utterance, so that a live call of three utterances is compared with reference calls of three.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hearloop.errors import ConfigurationError, IntegrityError

__all__ = ["ARTIFACT", "MINIMUM_SPEAKERS", "Condition", "Reference", "ReferenceRow", "build"]

ARTIFACT = "reference.json"
"""Name under which the reference lies beside a registered model."""

MINIMUM_SPEAKERS = 20
"""Conditions with fewer speakers are left out: their bounds would be too wide to notice anything,
and the speech of one person says little about that of others."""

SIGNIFICANT_DIGITS = 6
"""Precision of stored values; finer than any signal can be measured."""


@dataclass(frozen=True, kw_only=True)
class ReferenceRow:
    """One utterance on which the champion was judged."""

    condition: str
    """The known condition that it comes from: a corpus, or the set `golden` or `new`."""
    speaker: str
    signals: Mapping[str, float]
    """Value of each signal; leave out what could not be measured."""
    errors: int
    """Words that the champion got wrong."""
    words: int
    """Words in the reference transcript."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One kind of speech that the champion knows."""

    name: str
    speakers: tuple[tuple[tuple[float, ...], ...], ...]
    """Speaker by speaker, utterance by utterance: one value a signal, NaN where not measured."""
    wer: float
    """Mean over speakers of the champion's word error rate, each bounded to 1."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The known conditions of one champion. `signals` names the columns."""

    signals: tuple[str, ...]
    conditions: tuple[Condition, ...]

    @property
    def wer(self) -> float:
        """The champion's word error rate in the hardest condition that it was accepted for."""
        return max(condition.wer for condition in self.conditions)

    @property
    def speakers(self) -> int:
        """Number of speakers, over all conditions."""
        return sum(len(condition.speakers) for condition in self.conditions)

    def to_json(self) -> str:
        """The reference as JSON (null for what was not measured)."""
        return json.dumps(
            {
                "signals": self.signals,
                "conditions": [
                    {
                        "name": condition.name,
                        "wer": condition.wer,
                        "speakers": [
                            [[_stored(value) for value in utterance] for utterance in speaker]
                            for speaker in condition.speakers
                        ],
                    }
                    for condition in self.conditions
                ],
            },
            separators=(",", ":"),
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "Reference":
        """Read what `to_json` wrote. Raises IntegrityError."""
        try:
            document = json.loads(text)
            return cls(
                signals=tuple(document["signals"]),
                conditions=tuple(_condition(body) for body in document["conditions"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"The champion's {ARTIFACT} cannot be read ({error!r}); "
                "register the model again with a reference built by hearloop.drift.reference."
            ) from error


def build(rows: Iterable[ReferenceRow], *, signals: Sequence[str]) -> Reference:
    """Group judged utterances by condition and speaker.

    Conditions with fewer than `MINIMUM_SPEAKERS` speakers are left out. Raises
    ConfigurationError when none is left.
    """
    grouped: dict[str, dict[str, list[ReferenceRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        grouped[row.condition][row.speaker].append(row)
    known = {name: who for name, who in sorted(grouped.items()) if len(who) >= MINIMUM_SPEAKERS}
    if not known:
        counts = {name: len(who) for name, who in sorted(grouped.items())}
        raise ConfigurationError(
            f"A reference needs a condition with at least {MINIMUM_SPEAKERS} speakers, "
            f"and the judged sets have {counts}; judge the model on more speakers."
        )
    return Reference(
        signals=tuple(signals),
        conditions=tuple(
            Condition(
                name=name,
                speakers=tuple(
                    tuple(tuple(row.signals.get(s, math.nan) for s in signals) for row in said)
                    for said in who.values()
                ),
                wer=_speaker_wer(who.values()),
            )
            for name, who in known.items()
        ),
    )


def _speaker_wer(speakers: Iterable[Sequence[ReferenceRow]]) -> float:
    rates = [
        min(1.0, sum(row.errors for row in said) / words)
        for said in speakers
        if (words := sum(row.words for row in said)) > 0
    ]
    return sum(rates) / len(rates) if rates else 0.0


def _stored(value: float) -> float | None:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None


def _condition(body: Mapping[str, object]) -> Condition:
    speakers = body["speakers"]
    if not isinstance(speakers, list):
        raise TypeError("speakers is not a list")
    return Condition(
        name=str(body["name"]),
        wer=float(str(body["wer"])),
        speakers=tuple(
            tuple(tuple(math.nan if v is None else float(v) for v in said) for said in speaker)
            for speaker in speakers
        ),
    )
