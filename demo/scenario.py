"""What happens in the demo: who calls, who corrects, and when the monitor may act.

Sizes, seeds and policies only; every figure of the report is measured in the run.
"""

from dataclasses import dataclass, replace

from hearloop.drift.policy import MonitorPolicy
from hearloop.recipe import PerSplit, Split, SyntheticCorpus

__all__ = ["LINES", "SCENARIO", "Callers", "Scenario"]

LINES = 4
"""Calls that are held side by side."""

NEW_ACCENTS = ("en-gb-scotland", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
"""espeak-ng voices that no base model hears: Scottish, Caribbean, Lancashire, West Midlands."""


@dataclass(frozen=True, kw_only=True)
class Callers:
    """A group of people who call once each; no two groups share a voice.

    Voices and sentences belong to splits. Those of `test` are never said by anybody whom a model
    learns from, here or in a recipe.
    """

    corpus: SyntheticCorpus
    split: Split
    calls: int
    utterances_per_call: int


def _group(
    *, seed: int, calls: int, split: Split, changed: bool = False, utterances_per_call: int = 3
) -> Callers:
    nobody = PerSplit(train=0, dev=0, test=0)
    corpus = SyntheticCorpus(
        seed=seed,
        speakers=replace(nobody, **{split: calls}),
        utterances_per_speaker=replace(nobody, **{split: utterances_per_call}),
    )
    if changed:
        corpus = replace(corpus, accents=NEW_ACCENTS, new_products=True, telephone=True)
    return Callers(corpus=corpus, split=split, calls=calls, utterances_per_call=utterances_per_call)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """The cast of the demo."""

    judged_base: Callers
    """Held-out speakers in the accents that the base model knows."""
    judged_changed: Callers
    """Held-out speakers after the change; nobody corrects their calls."""
    usual: Callers
    """Callers before the change."""
    changed: Callers
    """Callers after the change; people correct most of their calls."""
    later: Callers
    """Callers from the retrain on; the poisoned corrections are of their calls."""
    watched_before_change: int
    """Usual calls that the monitor must have watched before the callers change."""
    policy: MonitorPolicy
    corrected_share: float
    """Share of the changed calls that somebody corrects."""
    contributors: tuple[str, ...]
    """People who correct honestly, one call after the other in turn."""
    honest_calls: int
    """Calls that honest people correct while the poison comes in: it is never alone."""
    poisoner: str
    """Sends the transcript of some other utterance for each one heard."""


SCENARIO = Scenario(
    judged_base=_group(seed=101, calls=48, split="test", utterances_per_call=6),
    judged_changed=_group(seed=102, calls=48, split="test", utterances_per_call=6, changed=True),
    usual=_group(seed=103, calls=240, split="test"),
    changed=_group(seed=104, calls=170, split="train", changed=True),
    later=_group(seed=105, calls=152, split="train", changed=True),
    watched_before_change=200,
    # A month squeezed into minutes: no cooldown, and calls that end sooner.
    policy=MonitorPolicy(
        enough_minutes=24.0,
        cooldown_hours=0.0,
        close_after_calls=2 * LINES,
        idle_seconds=10.0,
    ),
    corrected_share=0.9,
    contributors=("ada", "ben", "chloe", "dev", "elif", "finn", "grace", "hugo"),
    honest_calls=10,
    poisoner="mallory",
)
