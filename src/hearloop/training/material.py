"""What a training learns from, mixed: in memory, or in reach of object storage."""

from dataclasses import dataclass
from typing import Final

from hearloop.architecture import sample_rows
from hearloop.errors import ConfigurationError
from hearloop.feature_archive import ArchivedUtterance
from hearloop.features import MEL_BINS, log_mel
from hearloop.streamed import StreamedUtterance
from hearloop.tokenizer import Tokenizer
from hearloop.training import sets
from hearloop.training.adaptation import draw
from hearloop.training.batches import Example, noise_examples
from hearloop.training.request import StagedTraining

__all__ = ["Material", "load_material"]

_NOISE_SHARE: Final = 0.05
"""Noise without speech, relative to the number of utterances."""


_Utterance = ArchivedUtterance | StreamedUtterance


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a training learns from and what it is judged on meanwhile."""

    train: list[Example]
    new_dev: list[Example]
    old_dev: list[Example]


def load_material(staged: StagedTraining, tokenizer: Tokenizer) -> Material:
    """Read the feature sets and mix them as the configuration says.

    Features are in memory afterwards; those of a streamed set are computed whenever a batch asks.

    Raises ConfigurationError when there is nothing to learn from or to judge on.
    """
    config = staged.request.config
    utterances: dict[tuple[str, str], dict[str, _Utterance]] = {}
    for feature_set, utterance in sets.utterances(staged):
        part = utterances.setdefault((feature_set.role, utterance.split), {})
        part[utterance.id] = utterance

    def examples(role: str, split: str) -> list[Example]:
        return [_example(one, tokenizer) for one in utterances.get((role, split), {}).values()]

    new, new_dev = examples("new", "train"), examples("new", "dev")
    for split, found in (("train", new), ("dev", new_dev)):
        if not found:
            raise ConfigurationError(
                f"The new feature sets hold no {split} utterances; a training needs both train "
                "and dev speech, change the corpora of the recipe."
            )
    replayed = draw(utterances.get(("replay", "train"), {}), config.replay_utterances, config.seed)
    train = new * config.corpus_repeats + [_example(one, tokenizer) for one in replayed]
    features = log_mel if train[0].features.shape[1] == MEL_BINS else sample_rows
    noise = noise_examples(round(_NOISE_SHARE * len(train)), config.seed, features)
    return Material(train=train + noise, new_dev=new_dev, old_dev=examples("replay", "dev"))


def _example(utterance: _Utterance, tokenizer: Tokenizer) -> Example:
    return Example(
        id=utterance.id,
        features=utterance.features,
        ids=tuple(tokenizer.encode(utterance.text)),
        text=utterance.text,
    )
