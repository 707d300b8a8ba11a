"""Human telephone prompts of Debian: a speaker a language, 25 minutes, with what they say.

The packages asterisk-core-sounds-en-g722 and asterisk-core-sounds-en (CC-BY-SA), or those of
another language, hold the sounds and their texts. Held-out prompts are held out by text, since
there is only one speaker.
"""

import gzip
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hearloop.audio import Limits, decode, encode_flac
from hearloop.corpora.splits import split_of
from hearloop.corpora.utterance import UNDATED, Rejected, Utterance
from hearloop.errors import ConfigurationError, InvalidInput, ServiceUnavailable
from hearloop.recipe import PromptsCorpus
from hearloop.text import normalise

__all__ = ["parse_texts", "utterances"]


@dataclass(frozen=True, kw_only=True)
class _Voice:
    """The speaker of a language, and what this speaker calls the keys of a telephone."""

    language: str
    sounds: str
    speaker: str
    accent: str
    star: str
    pound: str

    @property
    def packages(self) -> tuple[str, str]:
        code = self.language.partition("-")[0]
        return f"asterisk-core-sounds-{code}-g722", f"asterisk-core-sounds-{code}"

    @property
    def recordings(self) -> Path:
        return Path("usr/share/asterisk/sounds", self.sounds)

    @property
    def texts(self) -> Path:
        package = self.packages[1]
        return Path("usr/share/doc", package, f"{package.removeprefix('asterisk-')}.txt.gz")

    def complete(self, root: Path) -> bool:
        return (root / self.recordings).is_dir() and (root / self.texts).is_file()


_VOICES = {
    "en": _Voice(
        language="en", sounds="en_US_f_Allison", speaker="allison", accent="en-us",
        star="star", pound="pound",
    ),
    "es": _Voice(
        language="es-MX", sounds="es_MX_f_Allison", speaker="allison-es", accent="es-mx",
        star="asterisco", pound="numero",
    ),
    "fr": _Voice(
        language="fr-CA", sounds="fr_CA_f_June", speaker="june", accent="fr-ca",
        star="étoile", pound="dièse",
    ),
    "it": _Voice(
        language="it", sounds="it_IT_m_Carlo", speaker="carlo", accent="it-it",
        star="asterisco", pound="cancelletto",
    ),
    "ru": _Voice(
        language="ru", sounds="ru_RU_f_IvrvoiceRU", speaker="ivrvoice", accent="ru-ru",
        star="звездочка", pound="решетка",
    ),
}  # fmt: skip

_INSTALLED = Path("/")
"""Where apt-get installs packages: they may be there already."""
_DOWNLOAD_SECONDS = 300.0
"""11 MB over a slow line."""

_LONGEST = Limits(seconds=30.0)
"""Three of the prompts are longer than any utterance of a call."""
_NOT_SPEECH = re.compile(r"[\[\]<>()]")
"""The texts put sounds and notes in brackets: `[ascending tones]`, `(simple tone sound plays)`."""


def utterances(corpus: PromptsCorpus, *, cache: Path) -> Iterator[Utterance | Rejected]:
    """The prompts in the order of their names, and what is no speech with the reason.

    Raises ConfigurationError when the sounds are neither there nor to be had.
    """
    voice = _VOICES[corpus.language]
    root = _root(voice, corpus, cache)
    texts = parse_texts(gzip.decompress((root / voice.texts).read_bytes()).decode("utf-8-sig"))
    sounds = root / voice.recordings
    files = {str(path.relative_to(sounds).with_suffix("")): path for path in sounds.rglob("*.g722")}
    for name in sorted(files.keys() | texts.keys()):
        if name not in files or name not in texts:
            missing = "recording" if name in texts else "text"
            yield Rejected(id=_id(name), reason=f"The prompt {name} has no {missing}.")
            continue
        try:
            yield _utterance(corpus, voice, name, files[name], texts[name])
        except InvalidInput as error:
            yield Rejected(id=_id(name), reason=str(error))


def parse_texts(listing: str) -> dict[str, str]:
    """What is said in each prompt, from lines `name: text`; `;` begins a comment."""
    texts = {}
    for line in listing.splitlines():
        name, colon, text = line.partition(":")
        if colon and not line.startswith(";"):
            texts[name.strip()] = text.strip()
    return texts


def _utterance(
    corpus: PromptsCorpus, voice: _Voice, name: str, path: Path, text: str
) -> Utterance | Rejected:
    if _NOT_SPEECH.search(text):
        return Rejected(
            id=_id(name), reason=f"The text {text!r} names a sound or holds a note besides speech."
        )
    spelled = text.replace("*", f" {voice.star} ").replace("#", f" {voice.pound} ")
    said = normalise(spelled, voice.language)
    sound = decode(path.read_bytes(), limits=_LONGEST, headerless="g722")
    return Utterance(
        id=_id(name),
        audio=encode_flac(sound.samples),
        text=said,
        speaker=voice.speaker,
        split=split_of(f"prompts/{said}", dev=corpus.dev_share, test=corpus.test_share),
        recorded_at=UNDATED,
        accent=voice.accent,
        language=voice.language,
    )


def _id(name: str) -> str:
    return f"prompt-{name.replace('/', '-')}"


def _root(voice: _Voice, corpus: PromptsCorpus, cache: Path) -> Path:
    """A folder that holds the voice's recordings and texts."""
    if corpus.folder is not None:
        if not voice.complete(corpus.folder):
            raise ConfigurationError(
                f"{corpus.folder} lacks {voice.recordings} or {voice.texts}; name a folder into "
                f"which {' and '.join(voice.packages)} were unpacked, or none to fetch them."
            )
        return corpus.folder
    fetched = cache / "prompts" / corpus.language
    for root in (_INSTALLED, fetched):
        if voice.complete(root):
            return root
    _fetch(voice.packages, fetched)
    return fetched


def _fetch(packages: tuple[str, str], target: Path) -> None:
    """Download and unpack the packages; `target` appears only when it is complete."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise ConfigurationError(
            "The prompts are in Debian packages and apt-get is not here; unpack "
            f"{' and '.join(packages)} elsewhere and give their folder in the recipe."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        _run(["apt-get", "download", *packages], Path(folder))
        unpacked = Path(folder) / "unpacked"
        for package in sorted(Path(folder).glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(unpacked)], Path(folder))
        shutil.rmtree(target, ignore_errors=True)
        unpacked.rename(target)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(
            command,
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ServiceUnavailable(
            f"`{' '.join(command)}` took more than {_DOWNLOAD_SECONDS:g} s; check the network."
        ) from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise ServiceUnavailable(
            f"`{' '.join(command)}` failed: {last}; run `apt-get update` and check the network."
        ) from error
