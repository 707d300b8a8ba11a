import gzip
from pathlib import Path

import numpy as np
import pytest

from hearloop.corpora import Rejected, Utterance, utterances
from hearloop.corpora.prompts import parse_texts
from hearloop.errors import ConfigurationError
from hearloop.recipe import PromptsCorpus
from hearloop.testing import InMemoryObjects

LISTING = """; Core Asterisk Sounds in English

hello-world: Hello world.
digits/1: one
conf-menu: Press * to leave, # to stay: now.
beep: [this is a simple beep tone]
silence/1: (1 second of silence)
vm-intro: Leave a message. (simple tone sound plays)
lost: This was never recorded.
long: Somebody talks for very long.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The two packages, unpacked, with noise for speech."""
    sounds = tmp_path / "usr/share/asterisk/sounds/en_US_f_Allison"
    texts = tmp_path / "usr/share/doc/asterisk-core-sounds-en"
    texts.mkdir(parents=True)
    (texts / "core-sounds-en.txt.gz").write_bytes(gzip.compress(LISTING.encode()))
    noise = np.random.default_rng(0).bytes(8_000)  # one second: G.722 has 64 kbit/s
    names = ["hello-world", "digits/1", "conf-menu", "beep", "silence/1", "vm-intro", "extra"]
    for name in names:
        path = sounds / f"{name}.g722"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise)
    (sounds / "long.g722").write_bytes(noise * 31)
    return tmp_path


def _read(folder: Path, cache: Path | None = None) -> dict[str, Utterance | Rejected]:
    found = utterances(
        PromptsCorpus(folder=folder), objects=InMemoryObjects(), cache=cache or folder
    )
    return {one.id: one for one in found}


def test_comments_and_empty_lines_are_no_prompts() -> None:
    texts = parse_texts(LISTING)
    assert len(texts) == 8
    assert texts["conf-menu"] == "Press * to leave, # to stay: now."


def test_prompts_are_utterances_with_what_is_said(folder: Path) -> None:
    found = _read(folder)
    one, menu = found["prompt-digits-1"], found["prompt-conf-menu"]
    assert isinstance(one, Utterance)
    assert isinstance(menu, Utterance)
    assert (one.text, one.accent) == ("one", "en-us")
    assert one.audio.startswith(b"fLaC")
    assert menu.text == "press star to leave pound to stay now"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("beep", "names a sound"),
        ("silence-1", "names a sound"),
        ("vm-intro", "names a sound"),
        ("lost", "no recording"),
        ("extra", "no text"),
        ("long", "longer than 30 s"),
    ],
)
def test_what_is_no_speech_is_rejected_with_its_reason(
    folder: Path, name: str, reason: str
) -> None:
    one = _read(folder)[f"prompt-{name}"]
    assert isinstance(one, Rejected)
    assert reason in one.reason


def test_a_folder_without_the_packages_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="asterisk-core-sounds-en-g722"):
        _read(tmp_path)


def test_without_apt_the_recipe_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("hearloop.corpora.prompts._INSTALLED", tmp_path)
    corpus = PromptsCorpus()
    with pytest.raises(ConfigurationError, match="give their folder in the recipe"):
        list(utterances(corpus, objects=InMemoryObjects(), cache=tmp_path))
