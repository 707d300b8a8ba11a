"""Whether a challenger may take over: a pure function from scores to a verdict.

Each check ends in one of three outcomes, and so does the verdict:

- `pass`: the claim was shown at the policy's confidence;
- `reject`: the challenger was shown to be worse (or its gain to be too small), or it exceeds a
  limit;
- `inconclusive`: the evidence shows neither, and the check states the smallest effect that it
  could have seen (the minimum detectable effect).

One rejecting check rejects the challenger; else one needed check in doubt leaves the verdict in
doubt. Slices too small to see the margin are reported as in doubt but not needed. A first model
has nothing to be compared with and stays `unjudged`.

WER is compared on the same utterances, with speakers as blocks (see `hearloop.resampling`). The
bounds of a check are one-sided, each at the policy's confidence; those of slices hold for all
slices at once (Bonferroni), and slices pass by Holm's procedure.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hearloop.gate.comparison import Comparison, compare, points
from hearloop.gate.verdict import Check, CheckOutcome, Outcome, Verdict
from hearloop.recipe import GatePolicy
from hearloop.resampling import bootstrap, holm
from hearloop.scores import (
    CHALLENGER,
    CHAMPION,
    ERRORS,
    GOLDEN,
    NEW,
    Evaluation,
    JudgedModel,
    sliced,
)
from hearloop.scoring import Edit, ScoredUtterance

__all__ = ["Check", "CheckOutcome", "Outcome", "Verdict", "gate"]


def gate(evaluation: Evaluation, policy: GatePolicy) -> Verdict:
    """Judge the challenger. The same evaluation and policy always give the same verdict."""
    if not policy.compare:
        return Verdict(outcome="unjudged", reason="The recipe asks for no comparison.")
    if CHAMPION not in evaluation.models:
        return Verdict(outcome="unjudged", reason="There is no champion to compare with.")
    checks = (
        _superior(evaluation, policy),
        _not_inferior(evaluation, policy, "WER", ERRORS),
        _not_inferior(evaluation, policy, "deletions", ("deletion",)),
        *_slices(evaluation, policy),
        _silence(evaluation, policy),
        *_limits(evaluation.models[CHALLENGER], evaluation.models[CHAMPION], policy),
    )
    return _verdict(checks)


def _verdict(checks: tuple[Check, ...]) -> Verdict:
    rejecting = [check for check in checks if check.outcome == "reject"]
    doubtful = [check for check in checks if check.needed and check.outcome == "inconclusive"]
    if rejecting:
        return Verdict(outcome="reject", reason=_reasons(rejecting), checks=checks)
    if doubtful:
        return Verdict(outcome="inconclusive", reason=_reasons(doubtful), checks=checks)
    return Verdict(outcome="pass", reason="Every needed check passed.", checks=checks)


def _reasons(checks: Sequence[Check]) -> str:
    return " ".join(f"{check.name}: {check.reason}" for check in checks)


def _superior(evaluation: Evaluation, policy: GatePolicy) -> Check:
    """The challenger makes fewer errors on the new set."""
    name, worthwhile = "WER better on the new set", policy.worthwhile_gain
    utterances = _utterances(evaluation, NEW)
    if not utterances:
        return _nothing(name, "WER", limit=0.0)
    found = compare(name, utterances, policy, alpha=1 - policy.confidence)
    outcome: CheckOutcome
    if found.few:
        outcome, reason = "inconclusive", found.too_few()
    elif found.low > -worthwhile:
        fell = f"fell by {points(-found.low)} at most" if found.low < 0 else "rose"
        outcome = "reject"
        reason = f"it {fell}; a rollout is worth {points(worthwhile)} or more."
    elif found.high < 0:
        outcome, reason = "pass", f"it fell by {points(-found.high)} or more."
    else:
        outcome, reason = "inconclusive", found.doubt("no fall was shown")
    return found.check(outcome, reason, limit=0.0, needed=True)


def _not_inferior(
    evaluation: Evaluation, policy: GatePolicy, unit: str, edits: Sequence[Edit]
) -> Check:
    """The challenger has not forgotten what the champion knows."""
    name, margin = f"{unit} no worse on the golden set", policy.golden_margin
    utterances = _utterances(evaluation, GOLDEN)
    if not utterances:
        return _nothing(name, unit, limit=margin)
    alpha = 1 - policy.confidence
    found = compare(name, utterances, policy, unit=unit, edits=edits, alpha=alpha)
    return _within_margin(found, shown=found.high < margin, needed=True)


def _slices(evaluation: Evaluation, policy: GatePolicy) -> list[Check]:
    """No slice that could show it got worse by more than the margin."""
    parts = [
        (name, f"{slice_name} {value}", utterances)
        for name in (GOLDEN, NEW)
        for (slice_name, value), utterances in sliced(_utterances(evaluation, name)).items()
    ]
    alpha = 1 - policy.confidence
    every = alpha / max(len(parts), 1)
    compared = [
        compare(f"WER no worse on the {name} set, {part}", utterances, policy, alpha=every)
        for name, part, utterances in parts
    ]
    powered = [found for found in compared if found.powered]
    p_values = [float(found.resampled.p_not_below(policy.golden_margin)) for found in powered]
    proven = zip(powered, holm(p_values, alpha), strict=True)
    shown = {found.name for found, passed in proven if passed}
    return [
        replace(_within_margin(found, shown=found.name in shown, needed=found.powered), part=part)
        for found, (_, part, _) in zip(compared, parts, strict=True)
    ]


def _within_margin(found: Comparison, *, shown: bool, needed: bool) -> Check:
    """Decide a claim of non-inferiority that a test has `shown`, or has not."""
    margin = found.policy.golden_margin
    outcome: CheckOutcome
    if found.few:
        outcome, reason = "inconclusive", found.too_few()
    elif found.high < 0:
        outcome, reason = "pass", f"it fell by {points(-found.high)} or more."
    elif shown and found.powered:
        outcome, reason = "pass", f"it rose by less than the {points(margin)} allowed."
    elif found.low > 0 and found.estimate > margin:
        outcome, needed = "reject", True
        reason = (
            f"it surely rose, by {points(found.estimate)} at best guess and "
            f"{points(found.low)} at least; {points(margin)} are allowed."
        )
    else:
        outcome = "inconclusive"
        reason = found.doubt(f"a rise past {points(margin)} is not excluded")
    return found.check(outcome, reason, limit=margin, needed=needed)


def _silence(evaluation: Evaluation, policy: GatePolicy) -> Check:
    """The challenger keeps silent where nobody speaks, or at least as well as the champion.

    A champion above the limit is not worth beating by chance: the clips are drawn again and
    again, and the challenger is rejected when it surely invents more.
    """
    name, unit = "words invented without speech", "words a minute"
    limit = policy.invented_words_per_minute
    if not evaluation.clips:
        return _nothing(name, unit, limit=limit)
    champion = evaluation.invented_words_per_minute(CHAMPION)
    challenger = evaluation.invented_words_per_minute(CHALLENGER)
    if champion <= limit or challenger <= limit:
        return _limit(name, unit, champion, challenger, limit=limit)
    more = evaluation.words_invented(CHALLENGER) - evaluation.words_invented(CHAMPION)
    drawn = bootstrap(more, np.ones(len(more)), resamples=policy.resamples, seed=policy.seed)
    surely = bool(drawn.bound(1 - policy.confidence) > 0)
    return Check(
        name=name,
        outcome="reject" if surely else "pass",
        needed=True,
        unit=unit,
        champion=champion,
        challenger=challenger,
        limit=limit,
        reason=f"{challenger:.3g} {unit}, {'surely' if surely else 'not surely'} more than the "
        f"champion's {champion:.3g}, which is above {limit:.3g} too.",
    )


def _limits(challenger: JudgedModel, champion: JudgedModel, policy: GatePolicy) -> list[Check]:
    """Speed, size and agreement of the exported with the trained model."""
    speed, size = "real-time factor", "size"
    checks = [
        _limit(
            speed,
            "seconds a second of audio",
            champion.real_time_factor,
            challenger.real_time_factor,
            limit=policy.maximum_real_time_factor,
        ),
        _limit(
            size,
            "MB",
            champion.size_bytes / 1e6,
            challenger.size_bytes / 1e6,
            limit=policy.maximum_size_mb,
        ),
    ]
    return [*checks, _agreement(challenger.agreement, champion.agreement, policy)]


def _agreement(challenger: float | None, champion: float | None, policy: GatePolicy) -> Check:
    name, unit = "exported and trained model agree", "share of utterances"
    limit = policy.minimum_agreement
    if challenger is None:
        return _nothing(name, unit, limit=limit)
    agrees = challenger >= limit
    return Check(
        name=name,
        outcome="pass" if agrees else "reject",
        needed=True,
        unit=unit,
        champion=champion,
        challenger=challenger,
        limit=limit,
        reason=f"{challenger:.1%} are alike; {limit:.1%} are asked for.",
    )


def _limit(name: str, unit: str, champion: float, challenger: float, *, limit: float) -> Check:
    """A figure that must not exceed its limit. Not a number exceeds every limit."""
    return Check(
        name=name,
        outcome="pass" if challenger <= limit else "reject",
        needed=True,
        unit=unit,
        champion=champion,
        challenger=challenger,
        limit=limit,
        reason=f"{challenger:.3g} {unit}; {limit:.3g} are allowed.",
    )


def _nothing(name: str, unit: str, *, limit: float) -> Check:
    return Check(
        name=name,
        outcome="inconclusive",
        needed=True,
        unit=unit,
        champion=None,
        challenger=None,
        limit=limit,
        reason="nothing was measured.",
    )


def _utterances(evaluation: Evaluation, name: str) -> Sequence[ScoredUtterance]:
    return evaluation.sets[name].utterances if name in evaluation.sets else ()
