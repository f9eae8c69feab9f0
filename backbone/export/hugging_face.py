"""A ViT as a folder that `from_pretrained` of Hugging Face's transformers opens; written without it."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...core.errors import UserError
from ..positions import position_table
from ..sizes import Architecture

# Our names of a block's parts to theirs, both without `qkv`, which they keep in three.
BLOCK = (
    (r"^attn\.proj", "attention.output.dense"),
    (r"^mlp\.fc1", "intermediate.dense"),
    (r"^mlp\.fc2", "output.dense"),
    (r"^norm1", "layernorm_before"),
    (r"^norm2", "layernorm_after"),
)


def image_config(arch: Architecture, kind: str) -> dict[str, Any]:
    """Return `config.json` of `vit_mae` (ViTMAEModel, masks nothing) or `vit` (ViTModel, ViTForImageClassification).

    Raises:
        UserError: transformers has no such ViT.
    """
    _refuse(arch)
    height, width = arch.image_size
    config = _common(arch) | {
        "model_type": kind,
        "architectures": ["ViTMAEModel" if kind == "vit_mae" else "ViTForImageClassification"],
        "image_size": height if height == width else [height, width],
    }
    return config | ({"mask_ratio": 0.0} if kind == "vit_mae" else {})


def clip_config(arch: Architecture, mean_pooling: bool) -> dict[str, Any]:
    """Return `config.json` of `videomae` (VideoMAEModel, VideoMAEForVideoClassification).

    Raises:
        UserError: transformers has no such ViT.
    """
    _refuse(arch)
    if arch.class_token or arch.positions != "sine1d" or arch.image_size[0] != arch.image_size[1]:
        raise UserError(
            "transformers' VideoMAE has square frames, no class token and 1-D sine positions; this model "
            f"has {arch.positions}{' and a class token' if arch.class_token else ''}: export to onnx or torch."
        )
    return _common(arch) | {
        "model_type": "videomae",
        "architectures": ["VideoMAEForVideoClassification" if mean_pooling else "VideoMAEModel"],
        "image_size": arch.image_size[0],
        "num_frames": arch.frames,
        "tubelet_size": arch.tubelet,
        "use_mean_pooling": mean_pooling,
    }


def hugging_face_state(state: Mapping[str, Tensor], arch: Architecture, prefix: str) -> dict[str, Tensor]:
    """Return our state dict of a ViT under their names.

    VideoMAE's keys have no bias, and need none: it adds the same to all attention scores of a query.

    Args:
        state: Of the ViT.
        arch: Its architecture.
        prefix: `vit.`, `videomae.`, or "" for a model without a head.

    Raises:
        UserError: There is no place for a tensor, or the positions of a model of clips were trained.
    """
    clips = arch.frames > 1
    found: dict[str, Tensor] = {}
    if clips and not torch.allclose(
        state["pos_embed"][0].cpu(), position_table("sine1d", arch.grid, arch.width), atol=1e-5
    ):
        raise UserError(
            "transformers' VideoMAE always has sine positions, and those of this model were trained: export to onnx or "
            "torch."
        )
    for name, value in state.items():
        value = value.detach().cpu()
        if match := re.match(r"blocks\.(\d+)\.(.+)", name):
            layer = f"encoder.layer.{match[1]}."
            if match[2].startswith("attn.qkv"):
                found |= {layer + part: each for part, each in _three(match[2], value, clips).items()}
                continue
            found[layer + _block_name(match[2])] = value
        elif name.startswith("norm."):
            found[name.replace("norm.", "layernorm.")] = value
        elif name.startswith("patch_embed.proj."):
            found[name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")] = value
        elif name == "cls_token":
            found["embeddings.cls_token"] = value
        elif name == "pos_embed":
            found |= {} if clips else {"embeddings.position_embeddings": value}
        else:
            raise UserError(f"transformers has no place for {name}.")
    return {prefix + name: value.contiguous().clone() for name, value in found.items()}


def _block_name(name: str) -> str:
    for ours, theirs in BLOCK:
        name = re.sub(ours, theirs, name)
    return name


def _three(name: str, value: Tensor, clips: bool) -> dict[str, Tensor]:
    kind = name.rsplit(".", 1)[1]
    parts = dict(zip(("query", "key", "value"), value.chunk(3)))
    if kind == "bias" and clips:
        return {"attention.attention.q_bias": parts["query"], "attention.attention.v_bias": parts["value"]}
    return {f"attention.attention.{part}.{kind}": each for part, each in parts.items()}


def _common(arch: Architecture) -> dict[str, Any]:
    return {
        "hidden_size": arch.width,
        "num_hidden_layers": arch.depth,
        "num_attention_heads": arch.heads,
        "intermediate_size": round(arch.width * arch.mlp_ratio),
        "hidden_act": {"gelu_tanh": "gelu_pytorch_tanh"}.get(arch.activation, arch.activation),
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": arch.norm_eps,
        "qkv_bias": arch.qkv_bias,
        "patch_size": arch.patch_size,
        "num_channels": arch.channels,
    }


def _refuse(arch: Architecture) -> None:
    if arch.layer_scale or arch.registers:
        raise UserError(
            "layer scale and registers (DINOv2) do not go to transformers from here: export to timm or onnx."
        )
    strange = {
        "rotary positions": arch.rotary is not None,
        "gated MLPs": arch.gated_mlp,
        "RMSNorm": arch.norm != "layer",
        "norms of queries and keys": arch.query_key_norm,
        "norms inside attention": arch.attention_norm,
        "norms inside the MLP": arch.mlp_norm,
        "a norm before the first block": arch.input_norm,
        "a norm of projected patches": arch.patch_norm,
        "stem of convolutions": arch.stem,
        "norms after attention and MLP": arch.norm_after,
    } | dict.fromkeys(arch.compressed, True)
    if found := [name for name, true in strange.items() if true]:
        raise UserError(f"transformers' ViT and VideoMAE have no {', '.join(found)}: export to onnx or torch.")
    if arch.frames == 1 and not arch.class_token:
        raise UserError("transformers' ViT has a class token, this one has none: export to timm, onnx or torch.")


def preprocessor(arch: Architecture, mean: tuple[float, ...], std: tuple[float, ...], kind: str) -> dict[str, Any]:
    """Return `preprocessor_config.json`: size and normalisation of pixels in 0..1."""
    return {
        "image_processor_type": "VideoMAEImageProcessor" if kind == "videomae" else "ViTImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
        "size": {"height": arch.image_size[0], "width": arch.image_size[1]},
    }
