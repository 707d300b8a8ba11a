"""Pretrained Wav2Vec2 weights, as torchaudio and Hugging Face keep them.

Hugging Face folders are read as they are, without transformers: config.json says the sizes, the
names of the weights are those that torchaudio's own importer reads. Pickles are loaded as weights
only, and nothing is loaded before its SHA-256 was compared, where the recipe states one.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
import torchaudio
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hearloop.architecture import Wav2Vec2Architecture, sized
from hearloop.errors import ConfigurationError, IntegrityError
from hearloop.families import Wav2Vec2Ctc
from hearloop.model.wav2vec2 import OVER_OUTPUT, OVERLAP, Wav2Vec2

__all__ = ["load_pretrained"]

_GIVEN: Final = ("dropout", "layer_drop", "aux_num_out")
"""Ends of the arguments of `wav2vec2_model` that the recipe decides."""

Weights = dict[str, Tensor]


def load_pretrained(family: Wav2Vec2Ctc, vocabulary: int, folder: Path | None = None) -> Wav2Vec2:
    """A network with pretrained weights and a new last layer.

    Args:
        family: says where the weights are.
        vocabulary: symbols, the blank included.
        folder: local copy of the source, where that is in object storage.

    Raises:
        ConfigurationError: there is no such source.
        IntegrityError: the weights are not those that the recipe or the sizes promise.
    """
    path = folder or Path(family.source)
    if path.is_dir():
        encoder, normalised, weights = _from_folder(path, family.sha256)
    else:
        encoder, normalised, weights = _from_torchaudio(family.source, family.sha256)
    _check_pace(encoder, family.source)
    shape = sized(family, vocabulary=vocabulary, encoder=encoder, normalised=normalised)
    assert isinstance(shape, Wav2Vec2Architecture)
    network = Wav2Vec2(shape)
    try:
        network.encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise IntegrityError(
            f"The weights of {family.source} do not fit the sizes beside them ({error}); fetch "
            "the model again."
        ) from error
    return network


def _check_pace(encoder: Mapping[str, Any], source: str) -> None:
    """Every known Wav2Vec2 answers every 320 samples; the recogniser counts on it."""
    step, reach = 1, 1
    for _, kernel, stride in encoder["extractor_conv_layer_config"]:
        reach += (kernel - 1) * step
        step *= stride
    if 2 * step != OVER_OUTPUT or reach != step + OVERLAP:
        raise ConfigurationError(
            f"{source} answers every {step} samples and hears {reach}; only models that answer "
            f"every {OVER_OUTPUT // 2} and hear {OVER_OUTPUT // 2 + OVERLAP} can be fine-tuned."
        )


def _from_torchaudio(name: str, sha256: str | None) -> tuple[dict[str, Any], bool, Weights]:
    """A bundle of `torchaudio.pipelines`; its file is fetched once into torch's cache."""
    bundle: Any = getattr(torchaudio.pipelines, name, None)
    if getattr(bundle, "_model_type", None) != "Wav2Vec2":
        raise ConfigurationError(
            f"{name!r} is neither a folder nor a Wav2Vec2 or HuBERT bundle of "
            "torchaudio.pipelines; correct the recipe's source."
        )
    file = Path(torch.hub.get_dir(), "checkpoints", Path(bundle._path).name)
    if sha256 and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        url = f"https://download.pytorch.org/torchaudio/models/{bundle._path}"
        torch.hub.download_url_to_file(url, str(file), hash_prefix=sha256, progress=False)
    if sha256:
        _check(file, sha256)
    model = bundle.get_model(dl_kwargs={"weights_only": True, "progress": False})
    weights = {
        key.removeprefix("model."): weight
        for key, weight in model.state_dict().items()
        if not key.removeprefix("model.").startswith("aux.")
    }
    encoder = {key: value for key, value in bundle._params.items() if not key.endswith(_GIVEN)}
    encoder["extractor_conv_layer_config"] = encoder["extractor_conv_layer_config"] or _LAYERS
    return encoder, bool(bundle._normalize_waveform), weights


_LAYERS: Final = [(512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2]
"""torchaudio's own, where a bundle names none."""


def _from_folder(folder: Path, sha256: str | None) -> tuple[dict[str, Any], bool, Weights]:
    """A Hugging Face folder: `save_pretrained` of Wav2Vec2Model, Wav2Vec2ForCTC or Hubert."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        encoder = _sizes(config)
        normalised = config["feat_extract_norm"] == "layer"
        preprocessor = folder / "preprocessor_config.json"
        if preprocessor.exists():
            normalised = bool(json.loads(preprocessor.read_text(encoding="utf-8"))["do_normalize"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"{folder} is not a Hugging Face folder of a Wav2Vec2 model ({error!r}); it needs "
            "config.json beside the weights."
        ) from error
    file = folder / "model.safetensors"
    if not file.exists():
        file = folder / "pytorch_model.bin"
    _check(file, sha256)
    return encoder, normalised, _renamed(_read(file))


def _sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """As `torchaudio.models.wav2vec2.utils.import_huggingface` reads them."""
    layers = zip(config["conv_dim"], config["conv_kernel"], config["conv_stride"], strict=True)
    return {
        "extractor_mode": f"{config['feat_extract_norm']}_norm",
        "extractor_conv_layer_config": [list(layer) for layer in layers],
        "extractor_conv_bias": config["conv_bias"],
        "encoder_embed_dim": config["hidden_size"],
        "encoder_pos_conv_kernel": config["num_conv_pos_embeddings"],
        "encoder_pos_conv_groups": config["num_conv_pos_embedding_groups"],
        "encoder_num_layers": config["num_hidden_layers"],
        "encoder_num_heads": config["num_attention_heads"],
        "encoder_ff_interm_features": config["intermediate_size"],
        "encoder_layer_norm_first": config["do_stable_layer_norm"],
    }


def _check(file: Path, sha256: str | None) -> None:
    try:
        with file.open("rb") as body:
            found = hashlib.file_digest(body, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(
            f"The weights {file} cannot be read ({error.strerror}); correct the recipe's source."
        ) from error
    if sha256 and found != sha256:
        raise IntegrityError(
            f"The weights {file} have SHA-256 {found}, the recipe says {sha256}; fetch them again."
        )


def _read(file: Path) -> Weights:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise IntegrityError(
            f"The weights {file} cannot be read ({error}); fetch the model again."
        ) from error


_PARTS: Final = {
    "feature_extractor.": "feature_extractor.",
    "feature_projection.": "encoder.feature_projection.",
    "encoder.": "encoder.transformer.",
}
"""Where torchaudio keeps the parts of a Hugging Face model; the others served the pretraining."""
_WEIGHT_NORM: Final = {
    "conv.weight_g": "conv.parametrizations.weight.original0",
    "conv.weight_v": "conv.parametrizations.weight.original1",
}
"""Weights of the positions' convolution, as older versions of torch named them."""


def _renamed(weights: Mapping[str, Tensor]) -> Weights:
    found = {}
    for name, weight in weights.items():
        name = name.removeprefix("wav2vec2.").removeprefix("hubert.")
        for old, new in _WEIGHT_NORM.items():
            name = name.replace(old, new)
        for part, place in _PARTS.items():
            if name.startswith(part):
                found[place + name.removeprefix(part)] = weight
    return found
