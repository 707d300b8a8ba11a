"""`hearloop.export` and `hearloop.bundle`: what is written is what is read."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hearloop import bundle, export
from hearloop.architecture import Architecture
from hearloop.errors import IntegrityError
from hearloop.graph import Graph
from hearloop.model import Network, StreamStates
from hearloop.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    architecture = Architecture(vocabulary=len(Tokenizer()), front_channels=8, hidden=12, layers=2)
    return Network(architecture).eval()


@pytest.fixture
def directory(tmp_path: Path, network: Network) -> Path:
    export.write_bundle(tmp_path / "bundle", network, Tokenizer(), training="digest")
    return tmp_path / "bundle"


def test_verifies_and_gives_the_weights_back(directory: Path, network: Network) -> None:
    found = export.verify(directory)
    assert found.architecture == network.architecture
    assert found.training == "digest"
    loaded = export.load_network(found).state_dict()
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(loaded[name], weight, rtol=0, atol=0)


def test_the_same_weights_have_the_same_digest(tmp_path: Path, network: Network) -> None:
    one = export.write_bundle(tmp_path / "one", network, Tokenizer(), training="t")
    other = export.write_bundle(tmp_path / "other", network, Tokenizer(), training="t")
    assert one.digest == other.digest


def test_replaces_an_older_bundle_and_leaves_nothing_else(
    directory: Path, network: Network
) -> None:
    before = export.verify(directory).digest
    export.write_bundle(directory, network, Tokenizer(), training="another")
    assert export.verify(directory).digest != before
    assert [path.name for path in directory.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", bundle.FILES)
def test_refuses_one_flipped_bit(directory: Path, name: str) -> None:
    body = bytearray((directory / name).read_bytes())
    body[len(body) // 2] ^= 1
    (directory / name).write_bytes(body)
    with pytest.raises(IntegrityError, match=name):
        export.verify(directory)


@pytest.mark.parametrize("name", [*bundle.FILES, bundle.MANIFEST])
def test_refuses_a_missing_file(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(IntegrityError, match="cannot be read"):
        export.verify(directory)


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"files": {}}', '{"files": 3}'])
def test_refuses_a_manifest_that_covers_something_else(directory: Path, manifest: str) -> None:
    (directory / bundle.MANIFEST).write_text(manifest)
    with pytest.raises(IntegrityError):
        export.verify(directory)


def test_refuses_other_features(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    config["features"]["bins"] = 40
    replace_config(directory, config)
    with pytest.raises(IntegrityError, match="features"):
        export.verify(directory)


def test_reads_bundles_from_before_there_were_families(directory: Path, network: Network) -> None:
    config = json.loads((directory / "config.json").read_text())
    sizes = ("vocabulary", "front_channels", "hidden", "layers", "lookahead", "tail")
    config = {
        "format": config["format"],
        "family": "conv-lstm-ctc",
        "architecture": {name: config["architecture"][name] for name in sizes},
        "features": config["features"],
        "training": config["training"],
    }
    replace_config(directory, config)
    assert export.verify(directory).architecture == network.architecture
    config["family"] = "unheard-of"
    replace_config(directory, config)
    with pytest.raises(IntegrityError, match="unheard-of"):
        export.verify(directory)


def replace_config(directory: Path, config: dict[str, object]) -> None:
    """Another configuration that the manifest knows of."""
    body = json.dumps(config).encode()
    (directory / "config.json").write_bytes(body)
    manifest = json.loads((directory / bundle.MANIFEST).read_text())
    digest = hashlib.sha256(body).hexdigest()
    manifest["files"]["config.json"] = {"sha256": digest, "bytes": len(body)}
    (directory / bundle.MANIFEST).write_text(json.dumps(manifest))


def test_export_stops_when_the_graph_computes_something_else(
    tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Graph.run
    monkeypatch.setattr(Graph, "run", lambda graph, x, states: run(graph, x * 1.1, states))
    with pytest.raises(IntegrityError, match="fp32 graph differs from the network"):
        export.write_bundle(tmp_path / "bundle", network, Tokenizer(), training="t")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("chunks", [(4, 8, 32), (16,)])
def test_the_graph_is_the_network_in_every_output_and_state(
    directory: Path, network: Network, chunks: tuple[int, ...]
) -> None:
    graph = Graph(directory / "model.onnx", network.architecture)
    states, others = network.initial_states(3), graph.initial_states(3)
    noise = np.random.default_rng(0)
    for frames in chunks:
        x = noise.normal(-6, 4, (3, frames, 80)).astype(np.float32)
        with torch.inference_mode():
            expected, states = network(torch.from_numpy(x), StreamStates(*states))
        found, others = graph.run(x, others)
        for one, other in zip((expected, *states), (found, *others), strict=True):
            np.testing.assert_allclose(one.numpy(), other, atol=1e-4)


@pytest.mark.parametrize("precision", bundle.GRAPHS)
def test_a_stream_s_result_does_not_depend_on_the_others_of_its_batch(
    directory: Path, network: Network, precision: bundle.Precision
) -> None:
    graph = Graph(directory / bundle.GRAPHS[precision], network.architecture)
    x = np.random.default_rng(0).normal(-6, 4, (32, 16, 80)).astype(np.float32)
    x[1:] *= 3.0
    alone, _ = graph.run(x[:1], graph.initial_states(1))
    for streams in (2, 8, 32):
        together, _ = graph.run(x[:streams], graph.initial_states(streams))
        np.testing.assert_allclose(together[:1], alone, atol=1e-5)


def test_refuses_a_bundle_of_an_earlier_format(directory: Path) -> None:
    manifest = json.loads((directory / bundle.MANIFEST).read_text())
    del manifest["files"]["model.int8.onnx"]
    (directory / bundle.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match="export it with this version"):
        export.verify(directory)
