import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hearloop.architecture import Architecture
from hearloop.bundle import verify
from hearloop.errors import IntegrityError
from hearloop.export import write_bundle
from hearloop.model import Network
from hearloop.recipe import TrainingConfig
from hearloop.testing import InMemoryObjects
from hearloop.tokenizer import Tokenizer
from hearloop.training.remote import RemoteTraining
from hearloop.training.request import FeatureSet, TrainingRequest

FOLDER = "s3://artifacts/trainings/one"
REQUEST = TrainingRequest(
    config=TrainingConfig(steps=5),
    sets=(FeatureSet(role="new", archive="s3://features/one/manifest.json"),),
)


@pytest.fixture
def objects() -> InMemoryObjects:
    objects = InMemoryObjects()
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc"
    shards = [{"name": "shard", "sha256": digest}]
    objects.put("s3://features/one/manifest.json", json.dumps({"shards": shards}).encode())
    objects.put("s3://features/one/shard", b"abc")
    return objects


def test_a_pod_gets_request_features_base_and_newest_checkpoints(
    objects: InMemoryObjects, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    architecture = Architecture(vocabulary=len(Tokenizer()), front_channels=8, hidden=8, layers=1)
    base = write_bundle(tmp_path / "base", Network(architecture), Tokenizer(), training="t")
    request = replace(REQUEST, base=base.digest)
    remote = RemoteTraining(FOLDER, objects, tmp_path / "here")
    assert remote.answered() is None
    remote.ask(request, base.directory)
    for step in (100, 200, 300):
        checkpoint = tmp_path / f"{step:08d}-digest.safetensors"
        checkpoint.write_bytes(b"state")
        remote.keep(checkpoint)

    staged = RemoteTraining(FOLDER, objects, tmp_path / "pod").stage()
    assert staged.request == request
    assert [path.read_bytes() for shards in staged.shards for path in shards] == [b"abc"]
    assert staged.base is not None
    assert verify(staged.base).digest == base.digest
    kept = [path.name for path in (staged.work / "checkpoints").iterdir()]
    # Two, for the newest may turn out damaged.
    assert sorted(kept) == ["00000200-digest.safetensors", "00000300-digest.safetensors"]


def test_a_changed_shard_is_refused(objects: InMemoryObjects, tmp_path: Path) -> None:
    remote = RemoteTraining(FOLDER, objects, tmp_path)
    remote.ask(REQUEST, None)
    objects.put("s3://features/one/shard", b"abd")
    with pytest.raises(IntegrityError, match="extract again"):
        remote.stage()
