"""What can be run: functions that return a frozen `Recipe`.

>>> recipes.synthetic().training.steps
1400
"""

from collections.abc import Callable, Mapping

from hearloop.recipe import (
    CorrectionsCorpus,
    FolderCorpus,
    GatePolicy,
    PerSplit,
    PromptsCorpus,
    Recipe,
    RolloutPolicy,
    SyntheticCorpus,
    TrainingConfig,
)

__all__ = ["RECIPES", "folder", "italian", "prompts", "retrain", "synthetic"]

CALLERS = SyntheticCorpus(
    seed=1,
    speakers=PerSplit(train=100, dev=12, test=48),
    utterances_per_speaker=PerSplit(train=18, dev=6, test=8),
)
"""About 1.8 h of training speech. 48 unheard speakers are enough for a verdict by speakers."""


WORKERS = 2
"""As fast as one worker with two threads on two idle cores, and many times as fast on busy ones:
threads wait for each other in every operation, workers once a step (`benchmarks.training`)."""

RETRAIN_MARGIN = 0.02
"""What a retrain may lose on the golden set before the gate holds it: with CALLERS' golden set a
challenger that loses half a point passes nine times in ten, one that loses two hardly ever. Why
not less: docs/adr/0006."""


def synthetic() -> Recipe:
    """A first model from scratch, on calls to a phone assistant; compared where a champion is."""
    return Recipe(
        name="synthetic",
        corpora=(CALLERS,),
        training=TrainingConfig(steps=1400, workers=WORKERS),
    )


def retrain(*, after: int = 0, up_to: int = 0) -> Recipe:
    """The champion adapts to corrections `after` < sequence <= `up_to`; the monitor sets both.

    Most of the usual learning rate, with old speech mixed in, and the development sets choose how
    far to go from the champion's weights: that learns more for the same forgetting than a small
    rate does.
    """
    return Recipe(
        name="retrain",
        corpora=(CorrectionsCorpus(after=after, up_to=up_to),),
        training=TrainingConfig(
            steps=650,
            workers=WORKERS,
            peak_learning_rate=1.5e-3,
            warm_start=True,
            replay_utterances=1200,
            corpus_repeats=4,
            average_with_base=(0.5, 0.7, 0.8, 0.9, 1.0),
        ),
        gate=GatePolicy(golden_margin=RETRAIN_MARGIN),
        rollout=RolloutPolicy(steps=(20, 50), requests_per_step=30),
    )


def prompts() -> Recipe:
    """Human telephone prompts beside the synthetic calls; nothing before compares with it."""
    return Recipe(
        name="prompts",
        corpora=(PromptsCorpus(), CALLERS),
        training=TrainingConfig(steps=1400, workers=WORKERS),
        gate=GatePolicy(compare=False),
    )


def italian() -> Recipe:
    """A first model of another language: only its tag and its speech differ."""
    return Recipe(
        name="italian",
        language="it",
        corpora=(PromptsCorpus(language="it"),),
        training=TrainingConfig(steps=1400, workers=WORKERS),
        gate=GatePolicy(compare=False),
    )


def folder(location: str, language: str = "en") -> Recipe:
    """Your own speech: a CSV or JSON-lines manifest or a Kaldi folder, local or `s3://`."""
    return Recipe(
        name="folder",
        language=language,
        corpora=(FolderCorpus(location=location),),
        training=TrainingConfig(steps=1400, workers=WORKERS),
    )


RECIPES: Mapping[str, Callable[[], Recipe]] = {
    "synthetic": synthetic,
    "retrain": retrain,
    "prompts": prompts,
    "italian": italian,
}
"""Recipes that `python -m pipelines` knows by name; others are files."""
