"""What one pipeline run does: frozen dataclasses that travel as JSON.

`pipelines.recipes` holds functions that return a `Recipe`; components receive its JSON. This
module loads neither torch nor lhotse, so that a pipeline compiles in a second.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from hearloop.errors import ConfigurationError, first_mistake
from hearloop.families import Family

__all__ = [
    "Augmentation",
    "Cleaning",
    "Corpus",
    "CorrectionsCorpus",
    "FolderCorpus",
    "GatePolicy",
    "PerSplit",
    "PromptsCorpus",
    "Recipe",
    "RolloutPolicy",
    "Split",
    "SyntheticCorpus",
    "TrainingConfig",
]

Split = Literal["train", "dev", "test"]

KNOWN_ACCENTS = ("en-us", "en-gb", "en-gb-x-rp")
"""espeak-ng voices that the base model hears."""


@dataclass(frozen=True, kw_only=True)
class PerSplit:
    """A count for each split."""

    train: int
    dev: int
    test: int


@dataclass(frozen=True, kw_only=True)
class SyntheticCorpus:
    """Calls to a phone assistant, spoken by espeak-ng from a grammar."""

    kind: Literal["synthetic"] = "synthetic"
    seed: int
    speakers: PerSplit
    utterances_per_speaker: PerSplit
    accents: tuple[str, ...] = KNOWN_ACCENTS
    new_products: bool = False
    """Whether the callers also ask for products that did not exist before."""
    telephone: bool = False
    """Whether the audio went through a telephone line (300 to 3400 Hz, G.711, 8 kHz)."""
    snr_db: tuple[float, float] = (15.0, 35.0)
    """Range from which each speaker's signal-to-noise ratio is drawn, in dB."""


@dataclass(frozen=True, kw_only=True)
class PromptsCorpus:
    """Human telephone prompts of Debian's asterisk-core-sounds, split by text."""

    kind: Literal["prompts"] = "prompts"
    language: Literal["en", "es", "fr", "it", "ru"] = "en"
    """One speaker each: en and es-MX Allison, fr-CA June, it Carlo, ru of Ivrvoice."""
    folder: Path | None = None
    """Where the packages' sounds are; None fetches the two Debian packages into the cache."""
    dev_share: float = 0.1
    test_share: float = 0.2


@dataclass(frozen=True, kw_only=True)
class FolderCorpus:
    """A CSV or JSON-lines manifest or a Kaldi data folder, local or `s3://`."""

    kind: Literal["folder"] = "folder"
    location: str
    disjoint_speakers: bool = False


@dataclass(frozen=True, kw_only=True)
class CorrectionsCorpus:
    """Human corrections of what the deployed model answered."""

    kind: Literal["corrections"] = "corrections"
    up_to: int
    """Sequence number of the last correction that belongs to the corpus."""
    after: int = 0
    """Sequence number of the last correction that an earlier run has learnt from."""
    screened: bool = True
    """False takes quarantined corrections too: only to measure what they would have done."""
    dev_share: float = 0.1
    test_share: float = 0.25


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What is done to recordings as they are ingested, which servers do not do to calls.

    Measured effects: docs/speech.md.
    """

    trim_silence: bool = False
    """Keep what lies between the first speech and the last, by WebRTC's voice activity detector;
    recordings without speech are quarantined."""
    reduce_noise: bool = False
    """Spectral gating by noisereduce; needs the extra `cleaning`."""


Corpus = Annotated[
    SyntheticCorpus | PromptsCorpus | FolderCorpus | CorrectionsCorpus,
    Field(discriminator="kind"),
]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Shares of the utterances that are varied in each way, drawn anew whenever one is heard.

    Speed, loudness and SpecAugment vary all of them.
    """

    telephone: float = 0.15
    """Through a telephone's band, coded by G.711."""
    rooms: float = 0.0
    """In rooms with an RT60 of 0.1 to 0.7 s."""
    noise: float = 0.0
    """In noise, at an SNR of 5 to 35 dB."""
    voices: float = 0.0
    """With all frequencies moved by up to 12 %, as of other speakers."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The budget and the optimiser. Steps, not minutes: a seed gives the same model."""

    steps: int
    seed: int = 0
    peak_learning_rate: float = 2e-3
    batch_seconds: float = 24.0
    """Audio in a batch, summed over workers."""
    workers: int = 1
    warm_start: bool = False
    """Start from the champion's weights instead of from random ones."""
    replay_utterances: int = 0
    """Utterances from the snapshots that the champion learnt from, mixed in while adapting."""
    corpus_repeats: int = 1
    """How often the new corpus is repeated relative to the replayed utterances."""
    average_with_base: tuple[float, ...] = (1.0,)
    """Candidate shares of the new weights when averaged with the base's; dev sets choose."""
    accepted_forgetting: float = 0.0125
    """Rise of the WER on old speech that is accepted for what is learnt. On a development set of a
    dozen speakers one point is chance; the gate, on many more, accepts two of a retrain."""
    other_learning_rates: tuple[float, ...] = ()
    """Peak rates that are tried beside the first, each for all steps; dev sets choose."""
    averaged_checkpoints: int = 1
    """Moments in the last fifth of the steps whose weights are averaged; 1 takes the last."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    stream: bool = False
    """Whether speech stays in object storage, as lhotse Shar, and is read as batches need it: for
    more of it than a machine holds. Otherwise its features are fetched and kept in memory."""
    units: Literal["characters", "sentencepiece"] = "characters"
    """What a model that begins with random weights writes at a time. Pieces of words need many
    hours of speech; with less they stay unlearnt."""
    pieces: int = 500
    """How many pieces sentencepiece learns from the training texts."""
    family: Family | None = None
    """What network, and its sizes; None takes the base's, or `rnn_ctc` without a base."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """In which a step computes; the weights stay float32. `auto`: bfloat16 on GPUs that have it."""

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """Peak rates, each of which is trained with for `steps`."""
        return (self.peak_learning_rate, *self.other_learning_rates)

    @property
    def total_steps(self) -> int:
        """Steps of all learning rates together."""
        return self.steps * len(self.learning_rates)


@dataclass(frozen=True, kw_only=True)
class GatePolicy:
    """When a challenger may take over. WER differences are absolute fractions."""

    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0
    golden_margin: float = 0.01
    """How much worse the challenger may be on the golden set and on each powered slice."""
    minimum_speakers: int = 10
    """Fewer speakers in a set or slice cannot show how speakers differ: it is inconclusive."""
    worthwhile_gain: float = 0.01
    """A challenger that surely gains less on the new set is rejected, not merely in doubt."""
    power: float = 0.8
    """Chance of seeing the minimum detectable effect that a check states."""
    invented_words_per_minute: float = 2.0
    """Words heard in recordings without speech; more is allowed up to the champion's own."""
    maximum_real_time_factor: float = 0.1
    """Seconds of computing for a second of audio: one core carries ten live calls."""
    maximum_size_mb: float = 64.0
    """Of the whole bundle, in 10^6 bytes: what a new server can download before callers notice."""
    minimum_agreement: float = 0.99
    """Share of utterances in which the exported and the trained model must give each character the
    same probability."""
    compare: bool = True
    """False: nothing can be compared; the model is registered without a verdict."""


@dataclass(frozen=True, kw_only=True)
class RolloutPolicy:
    """How a challenger takes the traffic."""

    steps: tuple[int, ...] = (10, 50)
    """Canary percentages before 100."""
    requests_per_step: int = 40
    """Canary answers needed before the next step."""
    rollback_alpha: float = 0.01
    """Chance of rolling back a canary that fails no more often than the stable version."""
    patience_seconds: float = 300.0
    """How long to wait for traffic before the rollout pauses and its canary gets no calls."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run: what it learns from, how, and by which rules it is judged and rolled out."""

    name: str
    corpora: tuple[Corpus, ...]
    training: TrainingConfig
    language: str = "en"
    """Tag of the language that is spoken, `it` or `es-MX`: one of `hearloop.text.languages`. What
    is in another language is quarantined."""
    cleaning: Cleaning = field(default_factory=Cleaning)
    gate: GatePolicy = field(default_factory=GatePolicy)
    rollout: RolloutPolicy = field(default_factory=RolloutPolicy)

    def to_json(self) -> str:
        """The recipe as JSON; `from_json` gives an equal recipe."""
        return _ADAPTER.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read a recipe. Raises ConfigurationError that names the wrong field."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise ConfigurationError(
                f"The recipe is {first_mistake(error)}; correct it and run again."
            ) from error


_ADAPTER = TypeAdapter(Recipe)
