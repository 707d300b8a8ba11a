"""Small Wav2Vec2 models with random weights, saved as others save theirs."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torchaudio.models import Wav2Vec2Model, wav2vec2_model

__all__ = ["SIZES", "random_encoder", "write_hugging_face_folder"]

SIZES: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [[8, 10, 5], *[[8, 3, 2]] * 4, *[[8, 2, 2]] * 2],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 16,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_ff_interm_features": 32,
    "encoder_layer_norm_first": False,
}


def random_encoder(seed: int = 0) -> Wav2Vec2Model:
    """torchaudio's model in evaluation mode, without an output layer."""
    torch.manual_seed(seed)
    dropouts = {
        f"encoder_{name}": 0.0
        for name in (
            "projection_dropout", "attention_dropout", "ff_interm_dropout", "dropout", "layer_drop",
        )
    }  # fmt: skip
    return wav2vec2_model(**SIZES, **dropouts, aux_num_out=None).eval()


def write_hugging_face_folder(
    folder: Path, encoder: Wav2Vec2Model, *, pickled: bool = False, prefix: str = "wav2vec2."
) -> Path:
    """What `save_pretrained` of transformers leaves: config.json and weights under its names."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = SIZES["extractor_conv_layer_config"]
    config = {
        "model_type": "wav2vec2",
        "feat_extract_norm": "group",
        "conv_dim": [layer[0] for layer in layers],
        "conv_kernel": [layer[1] for layer in layers],
        "conv_stride": [layer[2] for layer in layers],
        "conv_bias": False,
        "hidden_size": 16,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "do_stable_layer_norm": False,
    }
    (folder / "config.json").write_text(json.dumps(config))
    weights = {"lm_head.bias": torch.zeros(3), f"{prefix}masked_spec_embed": torch.zeros(16)}
    for name, weight in encoder.state_dict().items():
        name = name.replace("encoder.transformer.", "encoder.")
        name = name.replace("encoder.feature_projection.", "feature_projection.")
        if pickled:  # as versions of torch before 2.0 named them
            name = name.replace("parametrizations.weight.original0", "weight_g")
            name = name.replace("parametrizations.weight.original1", "weight_v")
        weights[prefix + name] = weight.contiguous()
    if pickled:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
