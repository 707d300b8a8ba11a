"""What a training writes in: the base's units, or those that its recipe asks for."""

from hearloop.bundle import Bundle
from hearloop.errors import ConfigurationError
from hearloop.text import language_of
from hearloop.tokenizer import Tokenizer, train_pieces
from hearloop.training.request import StagedTraining
from hearloop.training.sets import utterances

__all__ = ["tokenizer"]


def tokenizer(staged: StagedTraining, base: Bundle | None) -> Tokenizer:
    """The tokenizer of a training, the same in each worker and after each interruption.

    Raises ConfigurationError where the base writes another language, or where there are too many
    pieces of words for the texts.
    """
    config, language = staged.request.config, staged.request.language
    spoken = language_of(language)
    if base is not None:
        if language_of(base.language) != spoken:
            raise ConfigurationError(
                f"The recipe's language is {language!r} and the base model writes "
                f"{base.language!r}; train the first model of a language without warm_start."
            )
        return Tokenizer.load(base.directory / "tokens.txt", base.language)
    if config.units == "characters":
        return Tokenizer(spoken.alphabet, language=language)
    texts = [
        utterance.text
        for feature_set, utterance in utterances(staged)
        if feature_set.role == "new" and utterance.split == "train"
    ]
    return train_pieces(texts, language, config.pieces)
