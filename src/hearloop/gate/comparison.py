"""Both models' errors on the same utterances, and how sure their difference is."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from hearloop.gate.verdict import Check, CheckOutcome
from hearloop.recipe import GatePolicy
from hearloop.resampling import Bootstrap
from hearloop.scores import CHALLENGER, CHAMPION, ERRORS, difference
from hearloop.scoring import Edit, ScoredUtterance, total

__all__ = ["Comparison", "compare", "points"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Errors of both models on the same utterances, with bounds on their difference."""

    name: str
    unit: str
    utterances: Sequence[ScoredUtterance]
    edits: Sequence[Edit]
    resampled: Bootstrap
    alpha: float
    """Chance that one bound is wrong."""
    policy: GatePolicy

    @property
    def estimate(self) -> float:
        """The difference of the two rates: below 0, the challenger makes fewer errors."""
        return float(self.resampled.estimate)

    @property
    def low(self) -> float:
        """Lower bound of the difference."""
        return float(self.resampled.bound(self.alpha))

    @property
    def high(self) -> float:
        """Upper bound of the difference."""
        return float(self.resampled.bound(1 - self.alpha))

    @property
    def detectable(self) -> float:
        """Minimum detectable effect; not below what n words without an error can exclude.

        That is -ln(alpha) / n, the "rule of three" of Hanley and Lippman-Hand (1983): models
        that never differ on ten words are not shown to be equal.
        """
        words = sum(one.answers[CHALLENGER].words.length for one in self.utterances)
        seen = float(self.resampled.detectable(self.alpha, self.policy.power))
        return max(seen, -log(self.alpha) / words)

    @property
    def few(self) -> bool:
        """Whether there are too few speakers to learn from how they differ."""
        return self.resampled.blocks < self.policy.minimum_speakers

    @property
    def powered(self) -> bool:
        """Whether a rise of the allowed margin would be seen."""
        return not self.few and self.detectable <= self.policy.golden_margin

    def check(self, outcome: CheckOutcome, reason: str, *, limit: float, needed: bool) -> Check:
        """The check that this comparison decides."""
        return Check(
            name=self.name,
            outcome=outcome,
            needed=needed,
            unit=self.unit,
            champion=self._rate(CHAMPION),
            challenger=self._rate(CHALLENGER),
            limit=limit,
            difference=self.estimate,
            low=self.low,
            high=self.high,
            minimum_detectable=self.detectable,
            blocks=self.resampled.blocks,
            reason=reason,
        )

    def too_few(self) -> str:
        """The reason why too few speakers decide nothing."""
        blocks, least = self.resampled.blocks, self.policy.minimum_speakers
        return f"{blocks} speakers are too few to judge by; {least} are needed."

    def doubt(self, what: str) -> str:
        """The reason why `what` was left open."""
        return f"{what}; the smallest effect it could show is {points(self.detectable)}."

    def _rate(self, model: str) -> float:
        counts = total(one.answers[model].words for one in self.utterances)
        return sum(getattr(counts, f"{edit}s") for edit in self.edits) / max(counts.length, 1)


def compare(
    name: str,
    utterances: Sequence[ScoredUtterance],
    policy: GatePolicy,
    *,
    unit: str = "WER",
    edits: Sequence[Edit] = ERRORS,
    alpha: float,
) -> Comparison:
    """Compare both models on some utterances, of which there is at least one."""
    resampled = difference(utterances, edits=edits, resamples=policy.resamples, seed=policy.seed)
    return Comparison(
        name=name,
        unit=unit,
        utterances=utterances,
        edits=edits,
        resampled=resampled,
        alpha=alpha,
        policy=policy,
    )


def points(fraction: float) -> str:
    """A difference of two rates in percentage points."""
    return f"{100 * fraction:.2f} points"
