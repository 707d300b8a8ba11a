"""Learning the new without forgetting the old: replay, and averaging with the base's weights.

Replayed utterances of what the base model learnt from are mixed into each epoch (arXiv
2112.09427). Afterwards new and old weights are averaged in several shares (arXiv 2210.15282) and
development sets, never the sets of the gate, choose one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from hearloop.training.request import Candidate

__all__ = ["average", "choose", "draw", "report"]

_T = TypeVar("_T")


def draw(ids: Mapping[str, _T], count: int, seed: int) -> list[_T]:
    """`count` of the utterances by their ids, or all; growing sets keep most of the choice."""
    by_chance = sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    return [ids[name] for name in by_chance[:count]]


def average(
    base: Mapping[str, Tensor], new: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Weights that are `share` new and the rest the base's; counts are the new ones."""
    return {
        name: base[name].lerp(weight, share) if weight.is_floating_point() else weight
        for name, weight in new.items()
    }


def choose(candidates: Sequence[Candidate], before: Candidate | None, accepted: float) -> Candidate:
    """The candidate with the lowest WER on new speech among those that forget little.

    `accepted`: rise of the WER on old speech that counts as little. When each of them forgets
    more, the one that forgets least. Ties go to more of the new.
    """
    if before is None or before.old_wer is None:
        return min(candidates, key=lambda one: (one.new_wer, -one.share))
    limit = before.old_wer + accepted
    forgotten = {one: max(0.0, (one.old_wer or 0.0) - limit) for one in candidates}
    return min(candidates, key=lambda one: (forgotten[one], one.new_wer, -one.share))


def report(candidates: Sequence[Candidate], before: Candidate | None, chosen: Candidate) -> str:
    """What was learnt and what was forgotten, in Markdown: each candidate and the choice."""
    lines = [
        "| learning rate | share of the new | WER, new speech | WER, old speech | |",
        "|---:|---:|---:|---:|---|",
        *([_row(before, "the base")] if before else []),
        *(_row(one, "chosen" if one == chosen else "") for one in candidates),
        "",
        f"New speech: {_change(before.new_wer if before else None, chosen.new_wer)}.",
        f"Old speech: {_change(before.old_wer if before else None, chosen.old_wer)}.",
        "",
        "Word error rates on development sets, which chose; the gate judges on other speech.",
    ]
    return "\n".join(lines) + "\n"


def _row(one: Candidate, remark: str) -> str:
    rate = "" if one.learning_rate is None else f"{one.learning_rate:g}"
    return (
        f"| {rate} | {one.share:g} | {_percent(one.new_wer)} | {_percent(one.old_wer)} | {remark} |"
    )


def _percent(rate: float | None) -> str:
    return "none to judge on" if rate is None else f"{rate:.2%}"


def _change(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return f"{_percent(after)}, with nothing to compare"
    verb = "fell" if after <= before else "rose"
    return f"the WER {verb} by {abs(after - before):.2%}, from {before:.2%} to {after:.2%}"
