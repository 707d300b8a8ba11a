"""Pretrained weights from object storage."""

from pathlib import Path

import pytest

from hearloop.errors import ConfigurationError
from hearloop.families import RnnCtc, Wav2Vec2Ctc
from hearloop.testing import InMemoryObjects
from hearloop.training.pretrained import fetch_pretrained

PREFIX = "s3://models/tiny"


def test_holds_what_the_prefix_holds_now(tmp_path: Path) -> None:
    objects = InMemoryObjects()
    objects.put(f"{PREFIX}/config.json", b"{}")
    objects.put(f"{PREFIX}/model.safetensors", b"old")
    family = Wav2Vec2Ctc(source=f"{PREFIX}/")
    folder = fetch_pretrained(family, objects, tmp_path)
    assert folder
    assert (folder / "model.safetensors").read_bytes() == b"old"
    objects.delete(f"{PREFIX}/model.safetensors")
    objects.put(f"{PREFIX}/pytorch_model.bin", b"new")
    again = fetch_pretrained(family, objects, tmp_path)
    assert again == folder
    assert {path.name for path in folder.iterdir()} == {"config.json", "pytorch_model.bin"}


@pytest.mark.parametrize("family", [None, RnnCtc(), Wav2Vec2Ctc(source="WAV2VEC2_BASE")])
def test_other_sources_are_not_fetched(family: RnnCtc | Wav2Vec2Ctc | None, tmp_path: Path) -> None:
    assert fetch_pretrained(family, InMemoryObjects(), tmp_path) is None


def test_an_empty_prefix_is_a_mistake_of_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no Hugging Face model"):
        fetch_pretrained(Wav2Vec2Ctc(source=PREFIX), InMemoryObjects(), tmp_path)
