"""Models saved by Hugging Face's transformers: ViTMAE, VideoMAE, DINOv2 with and without registers."""

import re
from pathlib import Path

import torch

from ...core.documents import read_json
from ...core.errors import UserError
from .reading import State

CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
# Their model_type, and what we call the source.
KINDS = {"vit_mae": "mae", "videomae": "videomae", "dinov2": "dinov2", "dinov2_with_registers": "dinov2"}
PREFIX = re.compile(r"^(vit|videomae|dinov2|dinov2_with_registers)\.(?=embeddings|encoder|layernorm)")
# Theirs to the official names, applied one after the other.
NAMES = (
    (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"^embeddings\.position_embeddings", "pos_embed"),
    (r"^embeddings\.", ""),
    (r"^encoder\.layer\.", "blocks."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
    (r"\.attention\.attention\.(q_bias|v_bias)$", r".attn.\1"),
    (r"\.attention\.attention\.", ".attn."),
    (r"\.attention\.output\.dense", ".attn.proj"),
    (r"\.intermediate\.dense", ".mlp.fc1"),
    (r"\.output\.dense", ".mlp.fc2"),
    (r"\.layernorm_before", ".norm1"),
    (r"\.layernorm_after", ".norm2"),
    (r"\.layer_scale([12])\.lambda1", r".ls\1.gamma"),
)


def is_hugging_face(path: Path) -> bool:
    """Return whether a folder was written by transformers."""
    return (path / CONFIG).is_file()


def official_names(state: State) -> State:
    """Put a state dict of transformers under the names of the official code; the decoder keeps its own."""
    out = {}
    for name, value in state.items():
        name = PREFIX.sub("", name)
        if not name.startswith("decoder"):
            for old, new in NAMES:
                name = re.sub(old, new, name)
        out[name] = value
    for name in [name for name in out if name.startswith("blocks.") and ".attn.query." in name]:
        query, value = out.pop(name), out.pop(name.replace("query", "value"))
        key = out.pop(name.replace("query", "key"), torch.zeros_like(query))  # VideoMAE has no key bias
        out[name.replace("query", "qkv")] = torch.cat([query, key, value])
    return out


def read_config(folder: Path) -> tuple[str, dict, dict]:
    """Return the source and `Architecture` fields of a folder's config.json, and mean and std of its preprocessor.

    Raises:
        UserError: Damaged, or of another kind of model.
    """
    config = read_json(folder / CONFIG, remedy="Copy or download it again.")
    kind = config.get("model_type")
    if kind not in KINDS:
        raise UserError(f"{folder / CONFIG}: model_type {kind!r}: one of {', '.join(KINDS)} can be read.")
    try:
        size, fields = config["image_size"], {"heads": config["num_attention_heads"]}
        fields["image_size"] = (size, size) if isinstance(size, int) else tuple(size)
        if kind == "videomae":
            fields |= {"frames": config["num_frames"]}
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / CONFIG}: lacks or garbles {error}. Copy the folder again.") from None
    statistics = {}
    if (folder / PREPROCESSOR).is_file():
        found = read_json(folder / PREPROCESSOR, remedy="Copy or download it again.")
        if {"image_mean", "image_std"} <= found.keys():
            statistics = {"mean": tuple(found["image_mean"]), "std": tuple(found["image_std"])}
    return KINDS[kind], fields, statistics
