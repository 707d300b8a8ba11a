"""Wav2Vec2 from what torchaudio and Hugging Face keep; the weights are small and random."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio

from hearloop.errors import ConfigurationError, IntegrityError
from hearloop.families import Wav2Vec2Ctc
from hearloop.model.pretrained import load_pretrained
from hearloop.model.wav2vec2 import Wav2Vec2
from tests.pretrained import SIZES, random_encoder, write_hugging_face_folder

SAMPLES = torch.randn(2, 8 * 640, generator=torch.Generator().manual_seed(0))


def heard(network: Wav2Vec2) -> torch.Tensor:
    with torch.inference_mode():
        return network.eval().encoder(SAMPLES)[0]


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("prefix", ["wav2vec2.", ""])
def test_a_hugging_face_folder_computes_what_was_saved(
    tmp_path: Path, pickled: bool, prefix: str
) -> None:
    encoder = random_encoder(1)
    folder = write_hugging_face_folder(tmp_path, encoder, pickled=pickled, prefix=prefix)
    network = load_pretrained(Wav2Vec2Ctc(source=str(folder)), 5)
    with torch.inference_mode():
        torch.testing.assert_close(heard(network), encoder(SAMPLES)[0])
    assert not network.architecture.normalised


def test_the_preprocessor_says_whether_samples_are_normalised(tmp_path: Path) -> None:
    folder = write_hugging_face_folder(tmp_path, random_encoder())
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    network = load_pretrained(Wav2Vec2Ctc(source=str(folder)), 5).eval()
    rows = SAMPLES.unflatten(1, (-1, 160))
    with torch.inference_mode():
        one, _ = network(rows)
        other, _ = network(rows * 7 + 0.3)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("normalised", [False, True])
def test_a_torchaudio_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, normalised: bool
) -> None:
    """A bundle of theirs with small sizes, its file where torch keeps what it has fetched."""
    encoder = random_encoder(2)
    file = tmp_path / "hub" / "checkpoints" / "tiny.pth"
    file.parent.mkdir(parents=True)
    torch.save(encoder.state_dict(), file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    bundle = torchaudio.pipelines.Wav2Vec2Bundle(
        "tiny.pth", {**TORCHAUDIO, **SIZES}, 16_000, normalised, _model_type="Wav2Vec2"
    )
    monkeypatch.setattr(torchaudio.pipelines, "TINY", bundle, raising=False)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    network = load_pretrained(Wav2Vec2Ctc(source="TINY", sha256=sha256), 5)
    with torch.inference_mode():
        torch.testing.assert_close(heard(network), encoder(SAMPLES)[0])
    assert network.architecture.normalised is normalised
    with pytest.raises(IntegrityError, match="SHA-256"):
        load_pretrained(Wav2Vec2Ctc(source="TINY", sha256="0" * 64), 5)


TORCHAUDIO = {
    "encoder_projection_dropout": 0.1,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.1,
    "encoder_layer_drop": 0.05,
    "aux_num_out": None,
}


def test_says_what_is_wrong_with_a_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="neither a folder nor"):
        load_pretrained(Wav2Vec2Ctc(source="NO_SUCH_BUNDLE"), 5)
    with pytest.raises(ConfigurationError, match="neither a folder nor"):
        load_pretrained(Wav2Vec2Ctc(source="WAVLM_BASE"), 5)
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        load_pretrained(Wav2Vec2Ctc(source=str(tmp_path)), 5)


@dataclass(frozen=True)
class Damage:
    """What happens to a folder, and how it is refused."""

    file: str
    body: bytes
    error: type[Exception]


@pytest.mark.parametrize(
    "damage",
    [
        Damage("model.safetensors", b"no weights", IntegrityError),
        Damage("config.json", b"{", ConfigurationError),
    ],
)
def test_refuses_a_damaged_folder(tmp_path: Path, damage: Damage) -> None:
    folder = write_hugging_face_folder(tmp_path, random_encoder())
    (folder / damage.file).write_bytes(damage.body)
    with pytest.raises(damage.error):
        load_pretrained(Wav2Vec2Ctc(source=str(folder)), 5)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"num_hidden_layers": 3}, IntegrityError, "do not fit"),
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, ConfigurationError, "every 160 samples"),
    ],
)
def test_refuses_sizes_that_the_weights_or_the_recogniser_do_not_have(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], match: str
) -> None:
    folder = write_hugging_face_folder(tmp_path, random_encoder())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(error, match=match):
        load_pretrained(Wav2Vec2Ctc(source=str(folder)), 5)


def test_pickles_that_run_code_are_refused(tmp_path: Path) -> None:
    folder = write_hugging_face_folder(tmp_path, random_encoder(), pickled=True)
    torch.save({"wav2vec2.x": Damage}, folder / "pytorch_model.bin")
    with pytest.raises(IntegrityError, match="cannot be read"):
        load_pretrained(Wav2Vec2Ctc(source=str(folder)), 5)


def test_an_utterance_is_heard_alike_with_and_without_padding(tmp_path: Path) -> None:
    """But for the norm over time of the first convolution, which is the pretraining's."""
    folder = write_hugging_face_folder(tmp_path, random_encoder())
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    network = load_pretrained(Wav2Vec2Ctc(source=str(folder)), 5).eval()
    rows = torch.randn(1, 40, 160)
    with torch.inference_mode():
        alone = network.posteriors(rows, torch.tensor([10]))
        plain, _ = network(rows)
        padded = torch.cat([rows, torch.zeros(1, 0, 160)], dim=1)
        again = network.posteriors(padded, torch.tensor([10]))
    torch.testing.assert_close(alone, plain)
    torch.testing.assert_close(alone, again)


def test_the_encoder_learns_after_the_first_steps_only(tmp_path: Path) -> None:
    folder = write_hugging_face_folder(tmp_path, random_encoder())
    network = load_pretrained(Wav2Vec2Ctc(source=str(folder), frozen_steps=2), 5).train()
    batch = (
        torch.randn(2, 40, 160),
        torch.tensor([10, 6]),
        torch.tensor([1, 2]),
        torch.tensor([1, 1]),
    )
    for step, learns in enumerate([False, False, True]):
        network.zero_grad()
        network.begin_step(step)
        network.loss(*batch).backward()
        inner = network.encoder.encoder.transformer.layers[0].attention.k_proj.weight
        extractor = network.encoder.feature_extractor.conv_layers[0].conv.weight
        assert (inner.grad is not None) is learns
        assert extractor.grad is None
        assert network.output.weight.grad is not None
