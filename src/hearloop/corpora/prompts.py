"""Human telephone prompts of Debian: one speaker, 25 minutes, with what she says.

The packages asterisk-core-sounds-en-g722 and asterisk-core-sounds-en (CC-BY-SA) hold the sounds
and their texts. Held-out prompts are held out by text, since there is only one speaker.
"""

import gzip
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hearloop.audio import Limits, decode, encode_flac
from hearloop.corpora.splits import split_of
from hearloop.corpora.utterance import UNDATED, Rejected, Utterance
from hearloop.errors import ConfigurationError, InvalidInput, ServiceUnavailable
from hearloop.recipe import PromptsCorpus
from hearloop.text import normalise

__all__ = ["parse_texts", "utterances"]

PACKAGES = ("asterisk-core-sounds-en-g722", "asterisk-core-sounds-en")
SPEAKER = "allison"
ACCENT = "en-us"

_SOUNDS = Path("usr/share/asterisk/sounds/en_US_f_Allison")
_TEXTS = Path("usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
_INSTALLED = Path("/")
"""Where apt-get installs packages: they may be there already."""
_DOWNLOAD_SECONDS = 300.0
"""11 MB over a slow line."""

_LONGEST = Limits(seconds=30.0)
"""Three of the prompts are longer than any utterance of a call."""
_NOT_SPEECH = re.compile(r"[\[\]<>()]")
"""The texts put sounds and notes in brackets: `[ascending tones]`, `(simple tone sound plays)`."""
_KEYS = {"*": " star ", "#": " pound "}
"""How this speaker names the keys of a telephone."""


def utterances(corpus: PromptsCorpus, *, cache: Path) -> Iterator[Utterance | Rejected]:
    """The prompts in the order of their names, and what is no speech with the reason.

    Raises ConfigurationError when the sounds are neither there nor to be had.
    """
    root = _root(corpus, cache)
    texts = parse_texts(gzip.decompress((root / _TEXTS).read_bytes()).decode())
    files = {
        str(path.relative_to(root / _SOUNDS).with_suffix("")): path
        for path in (root / _SOUNDS).rglob("*.g722")
    }
    for name in sorted(files.keys() | texts.keys()):
        if name not in files or name not in texts:
            missing = "recording" if name in texts else "text"
            yield Rejected(id=_id(name), reason=f"The prompt {name} has no {missing}.")
            continue
        try:
            yield _utterance(corpus, name, files[name], texts[name])
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


def _utterance(corpus: PromptsCorpus, name: str, path: Path, text: str) -> Utterance | Rejected:
    if _NOT_SPEECH.search(text):
        return Rejected(
            id=_id(name), reason=f"The text {text!r} names a sound or holds a note besides speech."
        )
    for key, word in _KEYS.items():
        text = text.replace(key, word)
    said = normalise(text)
    sound = decode(path.read_bytes(), limits=_LONGEST, headerless="g722")
    return Utterance(
        id=_id(name),
        audio=encode_flac(sound.samples),
        text=said,
        speaker=SPEAKER,
        split=split_of(f"prompts/{said}", dev=corpus.dev_share, test=corpus.test_share),
        recorded_at=UNDATED,
        accent=ACCENT,
    )


def _id(name: str) -> str:
    return f"prompt-{name.replace('/', '-')}"


def _root(corpus: PromptsCorpus, cache: Path) -> Path:
    """A folder that holds _SOUNDS and _TEXTS."""
    if corpus.folder is not None:
        if not _complete(corpus.folder):
            raise ConfigurationError(
                f"{corpus.folder} lacks {_SOUNDS} or {_TEXTS}; name a folder into which "
                f"{' and '.join(PACKAGES)} were unpacked, or none to fetch them."
            )
        return corpus.folder
    fetched = cache / "prompts"
    for root in (_INSTALLED, fetched):
        if _complete(root):
            return root
    _fetch(fetched)
    return fetched


def _complete(root: Path) -> bool:
    return (root / _SOUNDS).is_dir() and (root / _TEXTS).is_file()


def _fetch(target: Path) -> None:
    """Download and unpack the packages; `target` appears only when it is complete."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise ConfigurationError(
            "The prompts are in Debian packages and apt-get is not here; unpack "
            f"{' and '.join(PACKAGES)} elsewhere and give their folder in the recipe."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        _run(["apt-get", "download", *PACKAGES], Path(folder))
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
