"""Models saved by Hugging Face's transformers: names and configurations of its Vision Transformers."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core.documents import read_json
from ...core.errors import UserError
from ..sizes import IMAGENET_STATISTICS, Rotary
from .clip import STATISTICS as CLIP_STATISTICS
from .reading import INDEX, State
from .source import Statistics

CONFIG = "config.json"
PREPROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json")
HALF: Statistics = ((0.5,) * 3, (0.5,) * 3)
# Their model_type, what we call the source, and what its pixels are usually normalised with.
KINDS: dict[str, tuple[str, Statistics]] = {
    "vit": ("vit", HALF),
    "vit_msn": ("vit", IMAGENET_STATISTICS),
    "deit": ("deit", IMAGENET_STATISTICS),
    "vit_mae": ("mae", IMAGENET_STATISTICS),
    "videomae": ("videomae", IMAGENET_STATISTICS),
    "dinov2": ("dinov2", IMAGENET_STATISTICS),
    "dinov2_with_registers": ("dinov2", IMAGENET_STATISTICS),
    "dinov3_vit": ("dinov3", IMAGENET_STATISTICS),
    "ijepa": ("ijepa", IMAGENET_STATISTICS),
    "vjepa2": ("vjepa2", IMAGENET_STATISTICS),
    "clip": ("clip", CLIP_STATISTICS),
    "clip_vision_model": ("clip", CLIP_STATISTICS),
    "siglip": ("siglip", HALF),
    "siglip_vision_model": ("siglip", HALF),
    "siglip2": ("siglip2", HALF),
    "siglip2_vision_model": ("siglip2", HALF),
}
# What a model of image and text leaves out of its configuration of images where it is usual.
USUAL = {
    "clip": {"image_size": 224, "patch_size": 32, "num_attention_heads": 12, "layer_norm_eps": 1e-5,
             "hidden_act": "quick_gelu"},
    "siglip": {"image_size": 224, "patch_size": 16, "num_attention_heads": 12, "layer_norm_eps": 1e-6,
               "hidden_act": "gelu_pytorch_tanh"},
    "siglip2": {"num_patches": 256, "patch_size": 16, "num_attention_heads": 12, "layer_norm_eps": 1e-6,
                "hidden_act": "gelu_pytorch_tanh"},
}  # fmt: skip
STRANGE = {
    "beit": "relative position biases in its blocks",
    "data2vec-vision": "relative position biases in its blocks",
    "swin": "windows and stages",
    "swinv2": "windows and stages",
    "convnext": "stages of convolutions",
    "convnextv2": "stages of convolutions",
    "resnet": "convolutions",
    "hiera": "stages",
    "vit_hybrid": "a convolutional network before its blocks",
}
ACTIVATIONS = {
    "gelu": "gelu", "gelu_python": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh", "quick_gelu": "quick_gelu", "silu": "silu", "swish": "silu", "relu": "relu",
}  # fmt: skip
# Theirs to timm's names, applied one after the other.
NAMES = (
    (r"^embeddings\.patch_embeddings\.proj(ection)?\.", "patch_embed.proj."),
    (r"^embeddings\.patch_embeddings?\.(weight|bias)$", r"patch_embed.proj.\1"),
    (r"^embeddings\.position_embeddings?(\.weight)?$", "pos_embed"),
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.", ""),
    (r"^(model\.)?(encoder\.)?layers?\.", "blocks."),
    (r"^(layernorm|post_layernorm)\.", "norm."),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^classifier\.", "head."),
    (r"\.attention\.attention\.(q_bias|v_bias)$", r".attn.\1"),
    (r"\.attention\.(attention\.)?([qkv])(uery|ey|alue)\.", r".attn.\2_proj."),
    (r"\.(attention|self_attn)\.([qkv]_proj|q_bias|v_bias)", r".attn.\2"),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.(attention|self_attn)\.(o_proj|out_proj|proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
    (r"\.(layernorm_before|layer_norm1)\.", ".norm1."),
    (r"\.(layernorm_after|layer_norm2)\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
)
OTHERS = ("decoder", "predictor", "text_model", "head.", "pooler")


def is_hugging_face(path: Path) -> bool:
    """Return whether a folder was written by transformers or by timm for its hub, with or without its config.json."""
    return (path / CONFIG).is_file() or any((path / index).is_file() for index in INDEX.values())


def has_its_names(state: State) -> bool:
    """Return whether a state dict has transformers' names."""
    return any(name.startswith(("embeddings.patch_embedding.", "embeddings.patch_embeddings.")) for name in state)


def official_names(state: State) -> State:
    """Put a state dict of transformers under timm's names, but for decoders, predictors, towers of text and heads."""
    plain = not any(".mlp.gate_proj." in name for name in state)
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        if not name.startswith(OTHERS):
            for old, new in NAMES:
                name = re.sub(old, new, name)
            if plain:
                name = name.replace(".mlp.up_proj.", ".mlp.fc1.")
        out[name] = value
    if "cls_token" in out:
        out["cls_token"] = out["cls_token"].reshape(1, 1, -1)
    if "pos_embed" in out and out["pos_embed"].ndim == 2:
        out["pos_embed"] = out["pos_embed"].unsqueeze(0)
    kernel = out["patch_embed.proj.weight"]
    if kernel.ndim == 2:  # SigLIP 2 projects rows of pixels (row, column, channel)
        side = round((kernel.shape[1] / 3) ** 0.5)
        out["patch_embed.proj.weight"] = kernel.reshape(len(kernel), side, side, 3).permute(0, 3, 1, 2).contiguous()
    return out


def read_config(folder: Path) -> tuple[str, dict, Statistics]:
    """Return the source and `Architecture` fields of a folder's config.json, and what is usual for its pixels.

    Raises:
        UserError: Damaged, or of another kind of model.
    """
    config = read_json(folder / CONFIG, remedy="Copy or download it again.")
    kind = config.get("model_type")
    if kind in STRANGE:
        raise UserError(f"{folder / CONFIG}: a model of the type {kind!r} has {STRANGE[kind]}, which our ViT has not.")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"{folder / CONFIG}: model_type {kind!r}: one of {', '.join(KINDS)} can be read.")
    family = kind.removesuffix("_vision_model")
    if isinstance(config.get("vision_config"), dict):
        config = USUAL.get(family, {}) | config["vision_config"]
    elif family in ("clip", "siglip", "siglip2"):
        config = USUAL[family] | config
    try:
        fields = _fields(family, config)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / CONFIG}: lacks or garbles {error}. Copy the folder again.") from None
    return KINDS[kind][0], fields, KINDS[kind][1]


def read_statistics(folder: Path) -> dict[str, tuple[float, ...]]:
    """Return mean and std of the folder's preprocessor, where there is one.

    Raises:
        UserError: It is damaged.
    """
    for name in PREPROCESSORS:
        if (folder / name).is_file():
            found = read_json(folder / name, remedy="Copy or download it again.")
            if {"image_mean", "image_std"} <= found.keys():
                return {"mean": numbers(folder / name, found["image_mean"]),
                        "std": numbers(folder / name, found["image_std"])}  # fmt: skip
    return {}


def numbers(path: Path, values: Any) -> tuple[float, ...]:
    """Return a list of numbers of a document as floats.

    Raises:
        UserError: It is none.
    """
    values = values if isinstance(values, list) else [values]
    if not values or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise UserError(f"{path}: mean and std are numbers, one per channel, not {values!r}. Copy it again.")
    return tuple(float(value) for value in values)


def _fields(family: str, config: dict) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "image_size": _image_size(family, config),
        "heads": config["num_attention_heads"],
        "resize_offset": 0.0,
        "resize_antialias": family in ("dinov2_with_registers", "siglip2"),
        "norm_eps": float(config.get("layer_norm_eps", 1e-6)),
        "activation": _activation(config),
    }
    if config.get("use_swiglu_ffn"):
        fields["activation"] = "silu"
    if family == "videomae":
        fields |= {"frames": config["num_frames"], "positions": "sine1d"}
    if family == "vjepa2":
        fields |= {"frames": config["frames_per_clip"], "positions": "none", "rotary": Rotary("clip")}
    if family == "dinov3_vit":
        base = float(config.get("rope_theta", 100.0))
        fields |= {"positions": "none", "rotary": Rotary("centred", base, halves=True)}
    if family == "siglip2":
        fields["resize_mode"] = "bilinear"
    return fields


def _image_size(family: str, config: dict) -> tuple[int, int]:
    if family == "siglip2":
        side = round(config["num_patches"] ** 0.5) * config["patch_size"]
        return side, side
    size = config["crop_size" if family == "vjepa2" else "image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    patch = config.get("patch_size", 1)
    patch = patch if isinstance(patch, int) else patch[0]
    return height // patch * patch, width // patch * patch


def _activation(config: dict) -> str:
    name = config.get("hidden_act", "gelu")
    if name not in ACTIVATIONS:
        raise ValueError(f"hidden_act {name!r}: one of {', '.join(ACTIVATIONS)} is known")
    return ACTIVATIONS[name]
