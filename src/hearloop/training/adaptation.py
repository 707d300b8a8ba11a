"""Learning the new without forgetting the old: replay, and averaging with the base's weights.

Replayed utterances of what the base model learnt from are mixed into each epoch (arXiv
2112.09427). Afterwards new and old weights are averaged in several shares (arXiv 2210.15282) and
development sets, never the sets of the gate, choose one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from torch import Tensor

from hearloop.training.request import Candidate

__all__ = ["average", "choose", "draw"]

_FORGETTING: Final = 0.0125
"""Rise of the WER on old speech that is accepted for what is learnt. On a development set of a
dozen speakers one point is chance; the gate, on many more, accepts two of a retrain."""

_T = TypeVar("_T")


def draw(ids: Mapping[str, _T], count: int, seed: int) -> list[_T]:
    """`count` of the utterances by their ids, or all; growing sets keep most of the choice."""
    by_chance = sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    return [ids[name] for name in by_chance[:count]]


def average(
    base: Mapping[str, Tensor], new: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Weights that are `share` new and the rest the base's."""
    return {name: base[name].lerp(new[name], share) for name in new}


def choose(candidates: Sequence[Candidate], before: Candidate | None) -> Candidate:
    """The candidate with the lowest WER on new speech among those that forget little.

    When each of them forgets more, the one that forgets least. Ties go to more of the new.
    """
    if before is None or before.old_wer is None:
        return min(candidates, key=lambda one: (one.new_wer, -one.share))
    limit = before.old_wer + _FORGETTING
    forgotten = {one: max(0.0, (one.old_wer or 0.0) - limit) for one in candidates}
    return min(candidates, key=lambda one: (forgotten[one], one.new_wer, -one.share))
