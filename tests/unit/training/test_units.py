import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hearloop.architecture import Architecture
from hearloop.bundle import verify
from hearloop.errors import ConfigurationError, IntegrityError
from hearloop.export import write_bundle
from hearloop.model import build
from hearloop.recipe import TrainingConfig
from hearloop.text import alphabet
from hearloop.training import FeatureSet
from hearloop.training.request import StagedTraining, TrainingRequest
from hearloop.training.units import tokenizer

TEXTS = ["premete il tasto due", "perché no", "non è attivo", "il numero chiamato"] * 8


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    rows = [
        {"id": str(n), "split": "train", "text": text, "frames": 1} for n, text in enumerate(TEXTS)
    ]
    path = tmp_path / "shard.safetensors"
    features = np.zeros((len(rows), 80), np.float16)
    save_file({"features": features}, path, metadata={"rows": json.dumps(rows)})
    return path


def staged(shard: Path, language: str, config: TrainingConfig) -> StagedTraining:
    sets = (FeatureSet(role="new", archive="s3://features/one/manifest.json"),)
    request = TrainingRequest(config=config, sets=sets, language=language)
    return StagedTraining(
        request=request, shards=((shard,),), base=None, work=shard.parent, output=shard.parent
    )


def test_characters_are_those_of_the_language(shard: Path) -> None:
    found = tokenizer(staged(shard, "ru", TrainingConfig(steps=1)), None)
    assert "".join(found.symbols) == alphabet("ru")
    assert found.language == "ru"


def test_pieces_are_learnt_go_into_the_bundle_and_come_back(shard: Path, tmp_path: Path) -> None:
    config = TrainingConfig(steps=1, units="sentencepiece", pieces=80)
    found = tokenizer(staged(shard, "it", config), None)
    assert found.symbols == tokenizer(staged(shard, "it", config), None).symbols
    architecture = Architecture(vocabulary=len(found), front_channels=8, hidden=8, layers=1)
    bundle = write_bundle(tmp_path / "bundle", build(architecture), found, training="t")
    assert (bundle.language, bundle.units) == ("it", "sentencepiece")
    assert "tokens.model" in bundle.files
    again = tokenizer(staged(shard, "it-IT", TrainingConfig(steps=1)), bundle)
    assert again.encode("perché no") == found.encode("perché no")
    with pytest.raises(ConfigurationError, match="'es' and the base model writes 'it'"):
        tokenizer(staged(shard, "es", config), bundle)
    model = tmp_path / "bundle/tokens.model"
    model.write_bytes(model.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match=r"tokens\.model has"):
        verify(tmp_path / "bundle")
