"""Where speech comes from: each corpus yields utterances, or reasons why something is none."""

from collections.abc import Iterator
from pathlib import Path

from hearloop.corpora import corrections as corrected
from hearloop.corpora import folder, prompts, synthetic
from hearloop.corpora.corrections import CorrectionStore
from hearloop.corpora.utterance import Rejected, Utterance
from hearloop.errors import ConfigurationError
from hearloop.ports import ObjectStore
from hearloop.recipe import (
    Corpus,
    CorrectionsCorpus,
    FolderCorpus,
    PromptsCorpus,
    SyntheticCorpus,
)

__all__ = ["CorrectionStore", "Rejected", "Utterance", "utterances"]


def utterances(
    corpus: Corpus,
    *,
    objects: ObjectStore,
    cache: Path,
    corrections: CorrectionStore | None = None,
) -> Iterator[Utterance | Rejected]:
    """Everything in a corpus, in a fixed order.

    cache: where downloads are kept; corrections: needed by a CorrectionsCorpus alone. Raises
    ConfigurationError when the corpus is not where the recipe says.
    """
    match corpus:
        case SyntheticCorpus():
            return synthetic.utterances(corpus)
        case PromptsCorpus():
            return prompts.utterances(corpus, cache=cache)
        case FolderCorpus():
            return folder.utterances(corpus, objects=objects)
        case CorrectionsCorpus():
            if corrections is None:
                raise ConfigurationError(
                    "The recipe asks for corrections and there is no store of them; "
                    "set HEARLOOP_DATABASE_URL."
                )
            return corrected.utterances(corpus, store=corrections, objects=objects)
