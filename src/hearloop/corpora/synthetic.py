"""Calls to a phone assistant, spoken by espeak-ng from a grammar.

A speaker is a voice (accent, variant, rate, pitch, pitch range) and a signal-to-noise ratio,
drawn once. Both voices and sentences belong to a split by a hash of their own, so that no seed
ever puts a voice or a sentence of the training split into another.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

import numpy as np

from hearloop.audio import SAMPLE_RATE, Samples, add_noise, encode_flac, telephone
from hearloop.corpora.espeak import VARIANTS, Voice, speak_all
from hearloop.corpora.grammar import sentence
from hearloop.corpora.splits import number, split_of
from hearloop.corpora.utterance import Utterance
from hearloop.errors import ConfigurationError
from hearloop.recipe import Split, SyntheticCorpus

__all__ = ["Speaker", "SyntheticCall", "calls", "speakers", "utterances"]

SPLITS: tuple[Split, ...] = ("train", "dev", "test")

SHARES = {"dev": 0.1, "test": 0.2}
"""Of all voices and of all sentences."""

RATE = (130, 180)
"""Words a minute, as people talk to a machine on the telephone; espeak-ng's own rate is 175."""
PITCH = (30, 70)
PITCH_RANGE = (30, 70)
"""Of espeak-ng's 0 to 99, where 50 is the voice's own; further out it stops sounding human."""

SPEECH_LEVEL_DBFS = -26.0
"""RMS of the speech: the nominal active speech level of ITU-T P.830, in dB to full scale."""
PAUSE_S = (0.1, 0.3)
"""Silence (noise only) before and after the words, in seconds."""

FIRST_CALL = datetime(2024, 1, 1, 8, tzinfo=UTC)
"""Synthetic calls come one a minute from this moment; no clock is read."""

_WORKERS = 2
"""Threads: each waits for an espeak-ng process, then adds noise; more gains nothing on 2 cores."""
_BATCH = 4
"""Calls that one espeak-ng process speaks: it takes as long to start as to speak ten sentences."""
_AHEAD = 3
"""Batches spoken ahead of the consumer: bounds memory to a few MB."""


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A voice in its surroundings."""

    voice: Voice
    snr_db: float


@dataclass(frozen=True, kw_only=True)
class SyntheticCall:
    """One call: `utterances` are (text, float32 samples (n,) at 16 kHz)."""

    call: str
    speaker: str
    accent: str
    utterances: list[tuple[str, Samples]]


@dataclass(frozen=True, kw_only=True)
class _Script:
    """All that determines the sound of one call."""

    call: str
    speaker: Speaker
    sentences: tuple[str, ...]
    telephone: bool


def calls(
    corpus: SyntheticCorpus, split: Split, count: int, utterances_per_call: int
) -> Iterator[SyntheticCall]:
    """Speak `count` calls in a fixed order; the corpus's speakers of the split take turns.

    Equal arguments give equal samples; a larger `count` only adds calls. Raises
    ConfigurationError when the split has no speakers.
    """
    scripts = _scripts(corpus, split, count, utterances_per_call)
    waiting: deque[Future[list[SyntheticCall]]] = deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        while batch := list(islice(scripts, _BATCH)):
            waiting.append(pool.submit(_spoken, batch))
            if len(waiting) > _AHEAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def utterances(corpus: SyntheticCorpus) -> Iterator[Utterance]:
    """Speak the whole corpus, one call a speaker, split by split."""
    for split in SPLITS:
        count = getattr(corpus.speakers, split)
        each = getattr(corpus.utterances_per_speaker, split)
        if not count:
            continue
        for minute, call in enumerate(calls(corpus, split, count, each)):
            for position, (text, samples) in enumerate(call.utterances):
                yield Utterance(
                    id=f"{call.call}-{position:02d}",
                    audio=encode_flac(samples),
                    text=text,
                    speaker=call.speaker,
                    split=split,
                    recorded_at=FIRST_CALL + timedelta(minutes=minute, seconds=5 * position),
                    call=call.call,
                    accent=call.accent,
                )


def speakers(corpus: SyntheticCorpus, split: Split) -> list[Speaker]:
    """The corpus's speakers of a split: accents take turns, no voice comes twice."""
    found: dict[str, Speaker] = {}
    rng = _rng(corpus, split, "speakers")
    while len(found) < getattr(corpus.speakers, split):
        voice = Voice(
            accent=corpus.accents[len(found) % len(corpus.accents)],
            variant=VARIANTS[rng.integers(len(VARIANTS))],
            rate=int(rng.integers(*RATE)),
            pitch=int(rng.integers(*PITCH)),
            pitch_range=int(rng.integers(*PITCH_RANGE)),
        )
        snr_db = float(rng.uniform(*corpus.snr_db))
        if voice.name not in found and split_of(voice.name, **SHARES) == split:
            found[voice.name] = Speaker(voice=voice, snr_db=snr_db)
    return list(found.values())


def _scripts(
    corpus: SyntheticCorpus, split: Split, count: int, utterances_per_call: int
) -> Iterator[_Script]:
    callers = speakers(corpus, split)
    if not callers:
        raise ConfigurationError(
            f"The corpus has no speakers in its {split} split; give `speakers.{split}` a number."
        )
    for place in range(count):
        call = f"{_name(corpus)}-{split}-{place:04d}"
        rng = _rng(corpus, split, call)
        said: list[str] = []
        while len(said) < utterances_per_call:
            drawn = sentence(rng, new_products=corpus.new_products)
            if split_of(drawn, **SHARES) == split:
                said.append(drawn)
        yield _Script(
            call=call,
            speaker=callers[place % len(callers)],
            sentences=tuple(said),
            telephone=corpus.telephone,
        )


def _spoken(scripts: Sequence[_Script]) -> list[SyntheticCall]:
    voices = speak_all([(script.speaker.voice, script.sentences) for script in scripts])
    return [_heard(script, spoken) for script, spoken in zip(scripts, voices, strict=True)]


def _heard(script: _Script, said: Sequence[Samples]) -> SyntheticCall:
    """A call as it arrives, with the noise around its speaker and by the line that it took."""
    rng = np.random.default_rng(number(script.call))
    spoken = []
    for text, samples in zip(script.sentences, said, strict=True):
        heard = add_noise(_placed(samples, rng), script.speaker.snr_db, rng)
        spoken.append((text, telephone(heard) if script.telephone else heard))
    voice = script.speaker.voice
    return SyntheticCall(
        call=script.call, speaker=voice.name, accent=voice.accent, utterances=spoken
    )


def _placed(samples: Samples, rng: np.random.Generator) -> Samples:
    """The words at the nominal level, between two pauses."""
    gain = 10 ** (SPEECH_LEVEL_DBFS / 20) / np.sqrt(np.mean(samples**2))
    before, after = (int(seconds * SAMPLE_RATE) for seconds in rng.uniform(*PAUSE_S, size=2))
    return np.pad(samples * np.float32(gain), (before, after))


def _name(corpus: SyntheticCorpus) -> str:
    """A short name of the corpus; two corpora that differ at all have other calls."""
    fields = repr(sorted(asdict(corpus).items()))
    return f"synthetic{corpus.seed}-{number(fields) % 16**6:06x}"


def _rng(corpus: SyntheticCorpus, split: Split, purpose: str) -> np.random.Generator:
    return np.random.default_rng(number(f"{_name(corpus)}/{split}/{purpose}"))
